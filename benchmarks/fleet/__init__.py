"""The operator with very many ModelDeployments, on a real control plane; pods are reported ready for the kubelets."""
