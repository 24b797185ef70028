"""Commands that show, evaluate, promote and use results."""
