"""The Kubernetes objects that belong to a ModelDeployment: one builder a kind, plain data in and out."""
