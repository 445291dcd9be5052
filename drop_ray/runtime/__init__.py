"""Everything that knows Ray: the cluster, the elastic pool of actors, and the actors themselves."""
