"""The ModelDeployment resource: its types and the CRD generated from them."""
