"""The processes of the plan without namespaces: what stands where the inits stand in the others.

    host -> spawner -> supervisor (one for each call) -> starter -> worker

The full plan never imports this package.
"""
