"""From a state to forecasts: step predictors, simple forecasts, rollouts, losses."""
