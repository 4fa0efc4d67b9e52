"""Which attributes of a source series pass on to what is derived from it, by module of PS3.3. Nothing else does."""

from typing import Final

PATIENT: Final = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientBirthTime", "PatientSex"),
    *("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"),
)
STUDY: Final = (
    *("StudyInstanceUID", "StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber"),
    *("StudyDescription", "PatientAge", "PatientSize", "PatientWeight", "LongitudinalTemporalInformationModified"),
)
EXAMINATION: Final = (
    *("AcquisitionDate", "AcquisitionTime", "AcquisitionDateTime", "AcquisitionNumber", "ProtocolName"),
    *("TimezoneOffsetFromUTC", "SpecificCharacterSet"),
)
"""Of the acquisition, but pointing to a person, a day or a place."""
GEOMETRY: Final = (
    *("FrameOfReferenceUID", "PositionReferenceIndicator", "PatientPosition", "PatientOrientation", "Laterality"),
    *("BodyPartExamined", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    "SliceLocation",
)
DISPLAY: Final = ("WindowCenter", "WindowWidth", "VOILUTFunction")
MR: Final = (
    *("ScanningSequence", "SequenceVariant", "ScanOptions", "MRAcquisitionType", "SequenceName", "AngioFlag"),
    *("RepetitionTime", "EchoTime", "InversionTime", "NumberOfAverages", "ImagingFrequency", "ImagedNucleus"),
    *("EchoNumbers", "MagneticFieldStrength", "NumberOfPhaseEncodingSteps", "EchoTrainLength", "PercentSampling"),
    *("PercentPhaseFieldOfView", "PixelBandwidth", "AcquisitionMatrix", "InPlanePhaseEncodingDirection"),
    *("FlipAngle", "VariableFlipAngleFlag", "TemporalPositionIdentifier", "NumberOfTemporalPositions"),
)
CT: Final = (
    *("KVP", "ScanOptions", "DataCollectionDiameter", "ReconstructionDiameter", "DistanceSourceToDetector"),
    *("DistanceSourceToPatient", "GantryDetectorTilt", "TableHeight", "RotationDirection", "ExposureTime"),
    *("XRayTubeCurrent", "Exposure", "FilterType", "GeneratorPower", "FocalSpots", "ConvolutionKernel"),
    *("RevolutionTime", "SingleCollimationWidth", "TotalCollimationWidth", "TableSpeed", "SpiralPitchFactor"),
    *("CTDIvol", "CTDIPhantomTypeCodeSequence"),
)
TECHNIQUE: Final = {"MR": MR, "CT": CT}

COPIED: Final = tuple(dict.fromkeys((*PATIENT, *STUDY, *EXAMINATION, *GEOMETRY, *DISPLAY, *MR, *CT)))

EMPTY_ALLOWED: Final = {
    "MR": ("ScanOptions", "MRAcquisitionType", "EchoTime", "EchoTrainLength", "RepetitionTime"),
    "CT": ("KVP", "AcquisitionNumber"),
    "": (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
        *("ReferringPhysicianName", "AccessionNumber", "PositionReferenceIndicator", "SliceThickness"),
        *("PatientPosition", "Laterality"),
    ),
}
"""Type 2: must be there, may say nothing. By modality; under "" those of both."""
