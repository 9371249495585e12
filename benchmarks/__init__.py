"""Speed and memory of the inference server, beside its limits and its peers, in one run each."""
