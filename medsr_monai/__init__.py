"""Super-resolution of medical images as MONAI bundles.

The public names are ``medsr_monai.RRDBNet`` and the like, for people and for a bundle's JSON; which room holds one may
change. Importing the package is cheap: a name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsr_monai.system.errors import InputError, exit_if_told_in_monai_bundle
from medsr_monai.system.optional import load_lazily
from medsr_monai.system.version import __version__

if TYPE_CHECKING:
    from medsr_monai.acquisition import *
    from medsr_monai.bundle.baselines import *
    from medsr_monai.bundle.configuration import *
    from medsr_monai.bundle.creation import *
    from medsr_monai.bundle.settings import *
    from medsr_monai.bundle.upscaling import *
    from medsr_monai.evaluation import *
    from medsr_monai.evaluation.report import *
    from medsr_monai.geometry import *
    from medsr_monai.metrics import *
    from medsr_monai.networks import *
    from medsr_monai.training import *
    from medsr_monai.training.handlers import *
    from medsr_monai.training.losses import *
    from medsr_monai.transforms import *
    from medsr_monai.upscaling import *
    from medsr_monai.volumes import *

ROOMS = {
    "acquisition": """
        AcquisitionDraw AcquisitionRange FixedWindow IntensityRule RobustRange SeparableAcquisition SlabProjection
        add_rician_noise apply_matrix back_project box_matrix gaussian_matrix kspace_matrix patch_matrix profile_matrix
    """,
    "bundle.baselines": "trained_baselines",
    "bundle.configuration": "build check_configuration describe_algorithm merged_config",
    "bundle.creation": "create_bundle",
    "bundle.settings": "check_judged_patch check_settings check_validation_volumes",
    "bundle.upscaling": "upscale",
    "evaluation": "Case Condition Evaluation Method find_cases parse_method",
    "evaluation.report": "save_comparison save_three_planes write_report",
    "geometry": """
        Grid corner_error_mm cubic_bspline interpolate inverse_orientation network_orientation
        parse_orientation reorient wavelet_matrix
    """,
    "metrics": """
        FeatureStatistics ForegroundMetric FrechetResult NIQEModel bootstrap_interval draw_resampling edge_preservation
        foreground_mask foreground_percentile frechet_distance frechet_of_gaussians gradient_distribution_distance
        gradient_magnitude gradient_magnitude_distance haarpsi hfen intensity_bias laplacian_of_gaussian mae
        measurement_residual ms_ssim mse perceptual_distance power_spectrum psnr spectrum_distance ssim vif
    """,
    "networks": """
        EDSR MDCSRN RCAN SRCNN VDSR ChestXrayDiscriminator ChestXrayGenerator ChestXrayResidualCNN ConvolutionalFeatures
        DCGANDiscriminator Discriminator EfficientNetLiteFeatures MedicalNetFeatures MultiScalePatchDiscriminator
        OnSlices RRDBNet SRResNet UNetDiscriminator VGG19Features VGGDiscriminator initial_network
        load_interpolated_weights load_weights
    """,
    "training": """
        AdversarialTrainer FidelityTrainer RandomPatchDataset TrainingDiverged distribute for_this_process
        group_by_subject join_processes leave_processes prepare_acquired_batch prepare_measured_batch process_device
        split_by_subject subject_of warmup_stable_decay world_size
    """,
    "training.handlers": "BestCheckpoint ResumableCheckpoint RunManifest ThreePlaneImages prepare_mlflow",
    "training.losses": """
        AdversarialLoss CharbonnierLoss FeatureMatchingLoss FrequencyLoss GradientLoss Hinge LeastSquares NonSaturating
        PerceptualLoss RelativisticAverage WassersteinGradientPenalty WeightedSum
    """,
    "transforms": """
        Acquired CropToMultipled DenoiseCurvatureFlowd ForegroundIndexd MiddleSliced NormaliseIntensityd RandAcquired
        RandAxisPermuted RandForegroundCropd ReorientToNetworkd RequireSized RestoreIntensityd
    """,
    "upscaling": """
        ConsistentInferer OutputNames StreamOrWholeInferer StreamingInferer Upscaled UpscalingSettings VolumeUpscaler
        consistency_regularisation cut_axis is_exact upscale_volume
    """,
    "volumes": """
        LazyVolume LoadVolumed OutputsTogether SlabWriter Volume VolumeInfo VolumeKeeper find_volumes is_dicom_volume
        open_volume prepare_folder read_info read_volume refuse_overwriting say_what_was_done streamable_suffix
        volume_of volume_stem volume_suffix voxels_to_unpack write_derived_series write_example write_volume
    """,
}

_HOMES = {name: room for room, names in ROOMS.items() for name in names.split()}

__all__ = ["InputError", "__version__", *_HOMES]

__getattr__, __dir__ = load_lazily(__name__, globals(), _HOMES)

# Every bundle's JSON imports the package: none can forget this.
exit_if_told_in_monai_bundle()
