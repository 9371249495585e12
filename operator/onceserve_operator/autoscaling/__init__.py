"""A number of replicas that follows the load: what pods tell, and what is made of it."""
