def shout(documents):
    return documents.map(lambda document: {"word": document["word"].upper()})
