"""One contract for both adapters, over real HTTP."""
