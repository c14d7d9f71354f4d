"""One replay for each kind of trace of a rival: yields (name, computed, recorded).

A kind begins the file's name. Sizes, numbers of steps and void come from the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from mmseg.models.losses import CrossEntropyLoss, FocalLoss
from torch import Tensor, nn

from sar.anchors import simplex
from sar.rivals.car import class_aware_losses
from sar.rivals.ceco import center_scores, centers_cross_entropy
from sar.rivals.center_loss import CenterLoss
from sar.rivals.class_means import class_sums, divide, pixel_labels
from sar.rivals.contrast_terms import contrast_loss, memory_contrast
from sar.rivals.protoseg import PrototypeClassifier
from sar.rivals.seesaw import SeesawLoss

Trace = dict[str, np.ndarray]
Pairs = Iterator[tuple[str, Tensor, Tensor]]

VOID = 255


def steps(trace: Trace) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The content of step0/, step1/, ... without these prefixes."""
    names = {name.split("/")[0] for name in trace if name.startswith("step")}
    for step in sorted(names, key=lambda name: int(name.removeprefix("step"))):
        found = {k.split("/", 1)[1]: v for k, v in trace.items() if k.startswith(f"{step}/")}
        yield step, {name: torch.as_tensor(value) for name, value in found.items()}


def hyper(trace: Trace, name: str, default: float) -> float:
    return float(trace.get(f"hyper_{name}", default))


def ignored(trace: Trace) -> int:
    return int(trace.get("hyper_ignore", trace.get("ignore_index", VOID)))


def car(trace: Trace) -> Pairs:
    features = torch.as_tensor(trace["features_nhwc"]).permute(0, 3, 1, 2).contiguous()
    features.requires_grad_()
    count = len(trace["class_centers"])
    known = torch.as_tensor(trace["labels"].astype(np.int64))
    labels = pixel_labels(known, features.shape[-2:], ignored(trace))
    sums, counts = class_sums(features, labels, count)
    yield "class_centers", divide(sums, counts), torch.as_tensor(trace["class_centers"])
    yield "class_counts", counts[:, None], torch.as_tensor(trace["class_counts"])
    thresholds = hyper(trace, "c2c_threshold", 0.5), hyper(trace, "c2p_threshold", 0.25)
    terms = class_aware_losses(features, labels, count, *thresholds)
    intra, inter = hyper(trace, "intra_rate", 1), hyper(trace, "inter_rate", 1)
    terms["total"] = inter * (terms["c2c"] + terms["c2p"]) + intra * terms["intra"]
    for name, term in terms.items():
        yield name, term, torch.as_tensor(trace[name])
        (gradient,) = torch.autograd.grad(term, features, retain_graph=True)
        recorded = torch.as_tensor(trace[f"grad_features_{name}"])
        yield f"grad_features_{name}", gradient.permute(0, 2, 3, 1), recorded


def ceco(trace: Trace) -> Pairs:
    share = torch.as_tensor(trace["class_share"]).flatten()
    weight, scale = hyper(trace, "img_cls_weight", 0.8), hyper(trace, "scale", 5)
    for step, at in steps(trace):
        centers = at["centres"].requires_grad_()
        scores = center_scores(centers, at["etf"], scale)
        yield f"{step}/logits_img", scores, at["logits_img"]
        smooth = hyper(trace, "smooth", 1)
        loss = weight * centers_cross_entropy(scores, at["present"], share, smooth)
        yield f"{step}/loss_img_cls", loss, at["loss_img_cls"]
        loss.backward()
        yield f"{step}/grad_centres", centers.grad, at["grad_centres"]


def center_loss(trace: Trace) -> Pairs:
    centers = torch.as_tensor(trace["state0/centers"])
    classes, channels = centers.shape
    rate = hyper(trace, "lr_centers", 0.5)
    module = CenterLoss(
        classes, channels, weight=hyper(trace, "weight", 1), center_lr=rate, ignore_index=VOID
    )
    module.centers.copy_(centers)
    for step, at in steps(trace):
        features = at["features"].requires_grad_()
        before = module.centers.clone()
        maps = features.T.reshape(1, channels, -1, 1)
        loss = module(maps, at["labels"].long().reshape(1, -1, 1))["loss_center"] * channels
        # The source divides by all samples, labelled or not.
        labelled = (at["labels"] != VOID).double().mean().float()
        yield f"{step}/loss", loss * labelled, at["loss"]
        (loss * labelled).backward()
        yield f"{step}/grad_features", features.grad, at["grad_features"]
        moved = before - (before - module.centers) * labelled
        yield f"{step}/grad_centers", (before - moved) / rate, at["grad_centers"]
        yield f"{step}/centers_after", moved, at["centers_after"]
        module.centers.copy_(moved.detach())


def contrast(trace: Trace) -> Pairs:
    temperature = hyper(trace, "temperature", 0.1)
    assert np.isclose(hyper(trace, "base_temperature", 0.07), 0.07)
    for step, at in steps(trace):
        sampled = at["sampled_features"].requires_grad_()
        views = sampled.shape[1]
        anchors = sampled.transpose(0, 1).flatten(0, 1)
        classes = at["sampled_labels"].long().repeat(views)
        queue = at.get("queue", torch.as_tensor(trace["queue"]) if "queue" in trace else None)
        if queue is None:
            loss = contrast_loss(anchors, classes, anchors, classes, temperature)
        else:
            loss = memory_contrast(anchors, classes, queue, temperature)
        yield f"{step}/loss", loss, at["loss"]
        loss.backward()
        yield f"{step}/grad_features", _scattered(sampled, at["features"]), at["grad_features"]


def _scattered(sampled: Tensor, features: Tensor) -> Tensor:
    """The gradient of sampled pixels as one of the maps that they were taken from."""
    pixels = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    rows = {tuple(pixel): index for index, pixel in enumerate(pixels.tolist())}
    index = torch.tensor([rows[tuple(row)] for row in sampled.detach().flatten(0, 1).tolist()])
    gradient = torch.zeros_like(pixels).index_add_(0, index, sampled.grad.flatten(0, 1))
    n, _, height, width = features.shape
    return gradient.reshape(n, height, width, -1).permute(0, 3, 1, 2)


def seesaw(trace: Trace) -> Pairs:
    module = None
    for step, at in steps(trace):
        logits, labels = at["logits"].requires_grad_(), at["labels"].long()
        known = labels[labels != VOID]
        if module is None:
            options = {
                name: hyper(trace, name, v) for name, v in (("p", 0.8), ("q", 2), ("eps", 0.01))
            }
            module = SeesawLoss(logits.shape[1], ignore_index=VOID, **options)
            seen = torch.bincount(known.flatten(), minlength=logits.shape[1])
            module.counts.copy_(at["cum_samples"].double() - seen)
        loss = module(logits, labels)
        yield f"{step}/cum_samples", module.counts, at["cum_samples"]
        yield f"{step}/loss", loss, at["loss"]
        loss.backward()
        yield f"{step}/grad_logits", logits.grad, at["grad_logits"]


def protoseg(trace: Trace) -> Pairs:
    raw = torch.as_tensor(trace["state0/prototypes_raw"])
    classes, count, channels = raw.shape
    weights = hyper(trace, "ppc_weight", 0.01), hyper(trace, "ppd_weight", 0.001)
    void = ignored(trace)
    module = PrototypeClassifier(
        classes,
        channels,
        num_prototypes=count,
        momentum=hyper(trace, "gamma", 0.999),
        ppc_weight=1.0,
        ppd_weight=1.0,
        ignore_index=void,
    )
    module.prototypes.copy_(F.normalize(raw, dim=2))
    for step, at in steps(trace):
        yield f"{step}/prototypes_used", module.prototypes.clone(), at["prototypes_used"]
        features, labels = at["features"].requires_grad_(), at["labels"].long()
        scores = module.match(features.movedim(1, -1))
        yield f"{step}/seg_logits", scores.logits, at["seg_logits"]
        proto_logits = scores.cosines.flatten(0, 2).flatten(1)
        yield f"{step}/proto_logits", proto_logits, at["proto_logits"]
        found = module.clusters(scores, labels)
        target = torch.full((len(proto_logits),), float(void))
        target[found.places] = found.target.float()
        yield f"{step}/proto_target", target, at["proto_target"]
        # Drawn class by class, as the source draws.
        generator = torch.Generator().manual_seed(int(at["torch_seed"]))
        noise = torch.zeros_like(found.shares)
        for k in range(classes):
            own = found.classes == k
            if own.any():
                drawn = torch.empty_like(noise[own]).exponential_(generator=generator)
                noise[own] = -drawn.log()
            if f"class{k}/index" in at:
                yield f"{step}/class{k}/index", found.nearest[own], at[f"class{k}/index"]
                chosen = F.one_hot((found.shares + noise)[own].argmax(dim=1), count)
                yield f"{step}/class{k}/q_hard", chosen, at[f"class{k}/q_hard"]
                cosines = found.cosines[own, k]
                yield f"{step}/class{k}/cosines", cosines, at[f"class{k}/cosines"]
        terms = module.losses(scores, labels, noise)
        ppc, ppd = terms["loss_ppc"], terms["loss_ppd"]
        yield f"{step}/ppc", ppc, at["ppc"]
        yield f"{step}/ppd", ppd, at["ppd"]
        yield f"{step}/prototypes_after", module.prototypes.clone(), at["prototypes_after"]
        size = labels.shape[-2:]
        logits = F.interpolate(scores.logits, size, mode="bilinear", align_corners=True)
        own_terms = weights[0] * ppc + weights[1] * ppd
        total = F.cross_entropy(logits, labels, ignore_index=void) + own_terms
        yield f"{step}/total", total, at["total"]
        for name, term in (("ppc_ppd", own_terms), ("total", total)):
            (gradient,) = torch.autograd.grad(term, features, retain_graph=True)
            yield f"{step}/grad_features_{name}", gradient, at[f"grad_features_{name}"]


def etf(trace: Trace) -> Pairs:
    frame = torch.as_tensor(trace["M"])  # (C, K)
    channels, classes = frame.shape
    own = F.normalize(simplex(classes, channels, torch.Generator()), dim=1)
    cosines = F.normalize(frame, dim=0)
    yield "cosines of M", own @ own.T, cosines.T @ cosines
    norm = nn.BatchNorm1d(channels, affine=False)
    for step, at in steps(trace):
        features = at["features"].requires_grad_()
        normalised = F.normalize(norm(features), dim=1)
        yield f"{step}/normalised", normalised, at["normalised"]
        yield f"{step}/bn_running_mean", norm.running_mean.clone(), at["bn_running_mean"]
        yield f"{step}/bn_running_var", norm.running_var.clone(), at["bn_running_var"]
        scores = center_scores(normalised, frame.T, scale=1.0)
        loss = F.cross_entropy(scores, at["labels"].long(), ignore_index=ignored(trace))
        yield f"{step}/ce_loss", loss, at["ce_loss"]
        loss.backward()
        yield f"{step}/grad_ce", features.grad, at["grad_ce"]


def mmseg_losses(trace: Trace) -> Pairs:
    focal = FocalLoss(gamma=hyper(trace, "gamma", 2), alpha=hyper(trace, "alpha", 0.5))
    weighted = CrossEntropyLoss(class_weight=trace["class_weight"].tolist())
    for step, at in steps(trace):
        logits = at["logits"].requires_grad_()
        belongs = F.one_hot(at["labels"].long(), logits.shape[1]).movedim(-1, 1)
        labels = at["labels_with_ignore"].long()
        losses = {
            "focal": focal(logits, belongs),
            "weighted_ce": weighted(logits, labels, ignore_index=ignored(trace)),
        }
        for name, loss in losses.items():
            yield f"{step}/{name}", loss, at[name]
            (gradient,) = torch.autograd.grad(loss, logits)
            yield f"{step}/grad_{name}", gradient, at[f"grad_{name}"]


def region_rebalance(trace: Trace) -> Pairs:
    weight, bias = (torch.as_tensor(trace[f"cls_{name}"]) for name in ("weight", "bias"))
    cross_entropy = CrossEntropyLoss(avg_non_ignore=True, loss_weight=hyper(trace, "main_w", 1))
    for step, at in steps(trace):
        labels = at["labels"].squeeze(1).long()
        logits = F.conv2d(at["features"], weight, bias)
        logits = F.interpolate(logits, labels.shape[-2:], mode="bilinear", align_corners=False)
        loss = cross_entropy(logits, labels, ignore_index=ignored(trace))
        yield f"{step}/loss_seg_seg", loss, at["loss_seg_seg"]


REPLAYS: dict[str, Callable[[Trace], Pairs]] = {
    "car_": car,
    "ceco_": ceco,
    "center_loss_": center_loss,
    "contrastiveseg_": contrast,
    "etf_dr_": etf,
    "mmseg_focal_weighted_ce_": mmseg_losses,
    "protoseg_": protoseg,
    "region_rebalance_": region_rebalance,
    "seesaw_": seesaw,
}

LEFT_OUT = {
    "etf_dr_": "the dot-regression loss, Ew and their gradient: no method here has one",
    "region_rebalance_": "all but the plain cross-entropy of its classifier, loss_seg_seg: no "
    "method here has the region branch, with which all other losses, gradients and logits are",
}
"""What no code here computes of a kind of trace, and why."""
