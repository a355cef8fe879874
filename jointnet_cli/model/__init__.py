"""The joint network: diffusers UNets as branches, their exchange, and the folders they live in."""
