"""Commands that show, judge and use results."""
