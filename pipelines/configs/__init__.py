"""From a run of a study to the configs of mmengine: the model, its images, the training."""
