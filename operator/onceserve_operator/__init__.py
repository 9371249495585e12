"""The OnceServe operator: reconciles ModelDeployment resources into replicated inference pods."""
