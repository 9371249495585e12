"""What the control plane and the data plane agree on; standard library only.

The operator writes these names into pods, Services and manifests; the server reads and serves them.
"""
