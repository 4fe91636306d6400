"""Classify a folder of images on all cores or machines of a Ray cluster, into Parquet files.

    pip install . 'ray[data]'
    python examples/ray_data.py photos/ predictions/ --workers 2

On a cluster the folders are addresses that every machine can reach (s3://..., or a shared disk). Each worker holds one
network; Ray Data streams images to them and predictions to the disk.
"""

import argparse
from typing import Any

import numpy as np
import ray

import resattn


class Classifier:
    """One worker: a network, and batches in and out."""

    def __init__(self, model: str) -> None:
        self.predictor = resattn.Predictor(resattn.load(model))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Path, id of the likeliest class and its probability, image by image."""
        predictions = self.predictor.predict(list(batch["image"]), top=1)
        return {
            "path": batch["path"],
            "label": np.array([prediction.labels[0] for prediction in predictions]),
            "probability": np.array([prediction.probabilities[0] for prediction in predictions]),
        }


def main() -> None:
    """Read, classify, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", help="a folder of images")
    parser.add_argument("out", help="a folder for the Parquet files")
    parser.add_argument(
        "--model", default="resattn_small", help="a name with weights, a run folder or a weights file"
    )
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    images = ray.data.read_images(options.images, mode="RGB", include_paths=True)
    found = images.map_batches(
        Classifier,
        fn_constructor_args=(options.model,),
        batch_size=64,
        compute=ray.data.ActorPoolStrategy(size=options.workers),
        # Ray keeps a core for each worker; on a small machine none would be left to read the images.
        num_cpus=0.5,
    )
    found.write_parquet(options.out)


if __name__ == "__main__":
    main()
