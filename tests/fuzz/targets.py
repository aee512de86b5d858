"""Every target by its name; a parser that reads what comes from outside has one."""

from __future__ import annotations

from tests.fuzz import (
    activation,
    bundles,
    config,
    frames,
    generate,
    golden,
    grpc,
    http2,
    http_requests,
    images,
    json_text,
    manifests,
    mqtt_payloads,
    oip,
    onnx_files,
    payloads,
    pbtxt,
    scrapers,
    signatures,
    topics,
    trusts,
    wavs,
)
from tests.fuzz.target import Target

__all__ = ["TARGETS", "Target"]

TARGETS: dict[str, Target] = {
    "http2": Target(http2.run_http2, http2.seed_http2, 2048),
    "frames": Target(frames.run_frames, frames.seed_frames, 2048),
    "http": Target(scrapers.run_http, scrapers.seed_http, 9216),
    "requests": Target(http_requests.run_requests, http_requests.seed_requests, 2048),
    "oip": Target(oip.run_oip, oip.seed_oip, 2048),
    "generate": Target(generate.run_generate, generate.seed_generate, 2048),
    "grpc": Target(grpc.run_grpc, grpc.seed_grpc, 2048),
    "archive": Target(bundles.run_archive, bundles.seed_bundles, 8192),
    "bundle": Target(bundles.run_bundle, bundles.seed_bundles, 8192),
    "manifest": Target(manifests.run_manifest, manifests.seed_manifests),
    "signatures": Target(signatures.run_signatures, signatures.seed_signatures),
    "trust": Target(trusts.run_trust, trusts.seed_trust),
    "golden": Target(golden.run_golden, golden.seed_golden),
    "onnx": Target(onnx_files.run_onnx, onnx_files.seed_onnx, 8192),
    "activation": Target(activation.run_log, activation.seed_log),
    "config": Target(config.run_config, config.seed_config, 8192),
    "topics": Target(topics.run_topics, topics.seed_topics, 2048),
    "payload": Target(payloads.run_payload, payloads.seed_payloads),
    "json": Target(json_text.run_json, json_text.seed_json),
    "cbor": Target(mqtt_payloads.run_cbor, mqtt_payloads.seed_cbor),
    "tensor": Target(mqtt_payloads.run_tensor, mqtt_payloads.seed_tensor, 1024),
    "sparkplug": Target(mqtt_payloads.run_sparkplug, mqtt_payloads.seed_sparkplug, 1024),
    "packed": Target(mqtt_payloads.run_packed, mqtt_payloads.seed_packed, 2048),
    "protobuf": Target(mqtt_payloads.run_protobuf, mqtt_payloads.seed_protobuf, 1024),
    "msgpack": Target(mqtt_payloads.run_msgpack, mqtt_payloads.seed_msgpack),
    "image": Target(images.run_image, images.seed_images, 8192),
    "wav": Target(wavs.run_wav, wavs.seed_wavs, 2048),
    "pbtxt": Target(pbtxt.run_pbtxt, pbtxt.seed_pbtxt, 2048),
}
