"""What the tests put into packages: models and modules, as a user's project would have them."""
