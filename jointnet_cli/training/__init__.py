"""Training: recipes, the objective, the stages and the trainer that runs them."""
