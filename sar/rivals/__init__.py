"""What semantic anchors are compared with: training methods of others, a file each.

Each file has a module in plain PyTorch and a plug-in function, which attaches it to the config of
any supported mmsegmentation model by `sar.door`, as `sar.mmseg.apply_sar` attaches SAR. None of
them touches prediction but `protoseg`, which takes the classifier's place (`sar.classifier`). A
plug-in that declares ``data`` is given what the prepared training set
holds: ``pixel_share`` and ``image_count``, a number a class in their order, ``num_images`` and
``num_pixels``; one that declares ``iterations`` is given the length of the training.
"""
