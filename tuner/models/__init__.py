"""Networks: functions of their hyperparameters. Keras is imported when one is built."""
