"""Models: built, trained, evaluated, and the devices and processes that compute."""
