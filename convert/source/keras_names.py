"""Classes and functions that a Keras file may name: those of an image classifier, which only calculate.

A file with any other is refused. Names are compared whole: Keras never writes a path such as ``layers.TFSMLayer``.
Not listed: whatever holds code, calls a function of the file's choice, names other files, or reads texts.
"""

from __future__ import annotations

# Layers of Keras 2 and 3, also those that keras.applications defines beside its models.
_LAYERS = """
Activation ActivityRegularization AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D Add AddLoss AddMetric AdditiveAttention AlphaDropout
Attention AugMix AutoContrast Average AveragePooling1D AveragePooling2D AveragePooling3D AvgPool1D AvgPool2D AvgPool3D
BatchNormalization BatchNormalizationV1 BatchNormalizationV2 Bidirectional CategoryEncoding CenterCrop Concatenate
ContrastLimitedAdaptiveHistogramEqualization Conv1D Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose
ConvLSTM1D ConvLSTM2D ConvLSTM3D Convolution1D Convolution1DTranspose Convolution2D Convolution2DTranspose
Convolution3D Convolution3DTranspose Cropping1D Cropping2D Cropping3D CuDNNGRU CuDNNLSTM CutMix Dense DepthwiseConv1D
DepthwiseConv2D Discretization Dot Dropout ELU EinsumDense Embedding Equalization Flatten GRU GRUCell GRUCellV1
GRUCellV2 GRUV1 GRUV2 GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
GlobalAveragePooling3D GlobalAvgPool1D GlobalAvgPool2D GlobalAvgPool3D GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D
GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization GroupQueryAttention Identity InputLayer
LSTM LSTMCell LSTMCellV1 LSTMCellV2 LSTMV1 LSTMV2 Layer LayerNormalization LeakyReLU LocallyConnected1D
LocallyConnected2D Masking MaxPool1D MaxPool2D MaxPool3D MaxPooling1D MaxPooling2D MaxPooling3D Maximum Minimum MixUp
MultiHeadAttention Multiply Normalization PReLU Permute Pipeline RMSNormalization RNN RandAugment RandomBrightness
RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop RandomElasticTransform RandomErasing RandomFlip
RandomFourierFeatures RandomGaussianBlur RandomGrayscale RandomHeight RandomHue RandomInvert RandomPerspective
RandomPosterization RandomRotation RandomSaturation RandomSharpness RandomShear RandomTranslation RandomWidth
RandomZoom ReLU RepeatVector Rescaling Reshape Resizing ReversibleEmbedding SeparableConv1D SeparableConv2D
SeparableConvolution1D SeparableConvolution2D SimpleRNN SimpleRNNCell Softmax Solarization SpatialDropout1D
SpatialDropout2D SpatialDropout3D SpectralNormalization StackedRNNCells Subtract SyncBatchNormalization
ThresholdedReLU TimeDistributed UnitNormalization UpSampling1D UpSampling2D UpSampling3D Wrapper ZeroPadding1D
ZeroPadding2D ZeroPadding3D CustomScaleLayer Custom>CustomScaleLayer LayerScale StochasticDepth
"""
# Initializers, regularizers, constraints, data types and quantizers.
_OBJECTS = """
AWQDTypePolicy AbsMaxQuantizer Constant Constraint DTypePolicy DTypePolicyMap Float8QuantizationConfig
FloatDTypePolicy GPTQDTypePolicy GlorotNormal GlorotNormalV2 GlorotUniform GlorotUniformV2 HeNormal HeUniform Identity
IdentityInitializer Initializer Int4DTypePolicy Int4QuantizationConfig Int8QuantizationConfig L1 L1L2 L2 LecunNormal
LecunUniform MaxNorm MinMaxNorm NonNeg Ones Orthogonal OrthogonalInitializer OrthogonalRegularizer OrthogonalV2 Policy
QuantizedDTypePolicy QuantizedFloat8DTypePolicy RandomNormal RandomUniform Regularizer STFT STFTInitializer
TruncatedNormal UnitNorm VarianceScaling Zeros constant glorot_normal glorot_uniform he_normal he_uniform identity l1
l1_l2 l2 lecun_normal lecun_uniform max_norm min_max_norm non_neg normal one ones orthogonal orthogonal_regularizer
random_normal random_uniform stft truncated_normal uniform unit_norm variance_scaling zero zeros
"""
# Losses, metrics, optimizers and schedules, which a model's file may name too.
_TRAINING = """
AUC Accuracy Adadelta Adafactor Adagrad Adam AdamW Adamax BinaryAccuracy BinaryCrossentropy BinaryFocalCrossentropy
BinaryIoU CTC CategoricalAccuracy CategoricalCrossentropy CategoricalFocalCrossentropy
CategoricalGeneralizedCrossEntropy CategoricalHinge Circle ConcordanceCorrelation CosineDecay CosineDecayRestarts
CosineSimilarity Dice ExponentialDecay F1Score FBetaScore FalseNegatives FalsePositives Ftrl Hinge Huber
InverseTimeDecay IoU KLDivergence Lamb Lion LogCosh LogCoshError LossScaleOptimizer Mean MeanAbsoluteError
MeanAbsolutePercentageError MeanIoU MeanSquaredError MeanSquaredLogarithmicError Muon Nadam OneHotIoU OneHotMeanIoU
PearsonCorrelation PiecewiseConstantDecay Poisson PolynomialDecay Precision PrecisionAtRecall R2Score RMSprop Recall
RecallAtPrecision RootMeanSquaredError SGD ScheduleFreeAdamW SensitivityAtSpecificity SparseCategoricalAccuracy
SparseCategoricalCrossentropy SparseTopKCategoricalAccuracy SpecificityAtSensitivity SquaredHinge Sum
TopKCategoricalAccuracy TrueNegatives TruePositives Tversky
"""
# Operations of keras.ops as functional models contain them; none that takes a function.
_OPERATIONS = """
Abs Absolute AdaptiveAveragePool AdaptiveMaxPool AffineTransform All AllClose Amax Amin Angle Any Append Arange Arccos
Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax Argmin Argpartition Argsort Array ArraySplit AveragePool
BatchNorm Bincount BitwiseAnd BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr BitwiseRightShift BitwiseXor
BroadcastTo CDist CTCDecode CTCLoss Cast Cbrt Ceil Celu Cholesky CholeskyInverse Clip Conj Conjugate Conv
ConvTranspose ConvertToTensor Copy Corrcoef Correlate Cos Cosh CountNonzero CropImages Cross Cumprod Cumsum Deg2rad
DepthToSpace DepthwiseConv Det Diag Diagflat Diagonal Diff Digitize Divide DivideNoNan DotProductAttention Dsplit
Dstack Eig Eigh Einsum ElasticTransform Elu EmptyLike Equal Erf Erfc Erfinv Exp Exp2 ExpandDims Expm1 ExtractPatches
ExtractSequences FFT FFT2 Fabs Flip Fliplr Flipud Floor FloorDivide Fmax Fmin Fmod Fold Full FullLike GaussianBlur Gcd
Gelu Geomspace GetItem Glu Greater GreaterEqual HSVToRGB HardShrink HardSigmoid HardSilu HardTanh Heaviside Histogram
Hsplit Hstack Hypot I0 IFFT2 IRFFT ISTFT Imag InTopK Inner Inv IsIn Isclose Isfinite Isinf Isnan Isneginf Isposinf
Isreal Kron LayerNorm Lcm Ldexp LeakyRelu LeftShift Less LessEqual Linspace Log Log10 Log1p Log2 LogSigmoid LogSoftmax
Logaddexp Logaddexp2 Logdet LogicalAnd LogicalNot LogicalOr LogicalXor Logspace Logsumexp Lstsq LuFactor
MapCoordinates Matmul MatrixRank Max MaxPool Median Meshgrid Min Mod Moments Moveaxis MultiHot NanToNum Nanargmax
Nanargmin Nancumprod Nancumsum Nanmax Nanmean Nanmedian Nanmin Nanpercentile Nanprod Nanquantile Nanstd Nansum Nanvar
Ndim Negative Nextafter Nonzero Norm Normalize NotEqual OneHot OnesLike Outer PSNR Pad PadImages Percentile
PerspectiveTransform Pinv Polar Power Prod Ptp Qr Quantile RFFT RGBToGrayscale RGBToHSV RMSNorm Rad2deg Ravel Real
Reciprocal Relu Relu6 Repeat Resize RightShift Roll Rot90 Round Rsqrt SSIM SVD SaturateCast ScaleAndTranslate Scatter
ScatterUpdate SearchSorted SegmentMax SegmentMin SegmentProd SegmentSum Select Selu SeparableConv Sigmoid Sign Signbit
Silu Sin Sinc Sinh Size Slice SliceUpdate Slogdet SobelEdges SoftShrink Softplus Softsign Solve SolveTriangular Sort
SpaceToDepth SparsePlus SparseSigmoid Sparsemax Split Sqrt Square Squareplus Squeeze Stack Std StopGradient Swapaxes
Take TakeAlongAxis Tan Tanh TanhShrink Tensordot Threshold Tile TopK Trace Transpose Trapezoid Tril Triu TrueDivide
Trunc Unfold Unique UnravelIndex Unstack Vander Var Vdot View ViewAsComplex ViewAsReal Vsplit Vstack Where ZerosLike
"""
# Functions, by the name under which a configuration has them.
_FUNCTIONS = """
acc accuracy adaptive_average_pool adaptive_max_pool average_pool batch_normalization binary_accuracy
binary_crossentropy binary_focal_crossentropy categorical_accuracy categorical_crossentropy
categorical_focal_crossentropy categorical_generalized_cross_entropy categorical_hinge celu circle
concordance_correlation constant conv conv_transpose cosine_similarity ctc ctc_decode ctc_loss depth_to_space
depthwise_conv dice dot_product_attention elu exponential fold gelu glorot_normal glorot_uniform glu hard_shrink
hard_sigmoid hard_silu hard_swish hard_tanh he_normal he_uniform hinge huber identity kl_divergence l1 l1_l2 l2
layer_normalization leaky_relu lecun_normal lecun_uniform linear log_cosh log_sigmoid log_softmax mae mape max_norm
max_pool mean_absolute_error mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error
min_max_norm mish moments mse msle multi_hot non_neg normal normalize one one_hot ones orthogonal
orthogonal_regularizer pearson_correlation poisson polar psnr random_normal random_uniform relu relu6
rms_normalization selu separable_conv sigmoid silu soft_shrink softmax softplus softsign space_to_depth
sparse_categorical_accuracy sparse_categorical_crossentropy sparse_plus sparse_sigmoid
sparse_top_k_categorical_accuracy sparsemax squared_hinge squareplus stft swish tanh tanh_shrink threshold
top_k_categorical_accuracy truncated_normal tversky unfold uniform unit_norm variance_scaling zero zeros
"""
# What else stands under class_name: models, and values that JSON lacks.
_VALUES = """
Functional Model Sequential
NoneType TensorShape __bytes__ __ellipsis__ __keras_tensor__ __numpy__ __slice__ __tensor__ __tuple__ dict list slice
"""
# Functions of TensorFlow as the layers TFOpLambda and SlicingOpLambda of Keras 2 name them; image., linalg., math. and
# nn. are their modules, and every list is without the functions that take another function.
_TENSORFLOW = {
    "": """
    argsort batch_to_space boolean_mask broadcast_to cast clip_by_value concat convert_to_tensor expand_dims eye
    fill gather gather_nd identity linspace meshgrid norm one_hot ones ones_like pad range rank repeat reshape
    reverse roll scatter_nd searchsorted shape size slice sort space_to_batch_nd split squeeze stack stop_gradient
    strided_slice tensor_scatter_nd_add tensor_scatter_nd_update tile transpose unique unstack where zeros
    zeros_like
    """,
    "__operators__.": """
    add divide eq equal floordiv ge getitem gt le logical_and logical_not logical_or lt matmul mod mul ne not_equal pow
    sub truediv
    """,
    "math.": """
    abs accumulate_n acos acosh add add_n angle argmax argmin asin asinh atan atan2 atanh bincount ceil conj cos
    cosh count_nonzero cumprod cumsum cumulative_logsumexp divide divide_no_nan equal erf erfinv exp expm1 floor
    floordiv floormod greater greater_equal imag in_top_k is_finite is_inf is_nan l2_normalize less less_equal
    lgamma log log1p log_sigmoid log_softmax logical_and logical_not logical_or logical_xor maximum minimum mod
    multiply multiply_no_nan negative not_equal pow real reciprocal reciprocal_no_nan reduce_all reduce_any
    reduce_euclidean_norm reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_std reduce_sum
    reduce_variance rint round rsqrt scalar_mul segment_max segment_mean segment_min segment_sum sigmoid sign sin
    sinh softmax softplus softsign sqrt square squared_difference subtract tan tanh top_k truediv
    unsorted_segment_max unsorted_segment_mean unsorted_segment_sum xdivy xlogy zero_fraction
    """,
    "nn.": """
    atrous_conv2d avg_pool avg_pool1d avg_pool2d avg_pool3d batch_normalization bias_add conv1d
    conv1d_transpose conv2d conv2d_transpose conv3d conv3d_transpose convolution crelu depth_to_space
    depthwise_conv2d depthwise_conv2d_native dilation2d dropout elu erosion2d fused_batch_norm gelu in_top_k l2_loss
    l2_normalize leaky_relu local_response_normalization log_softmax lrn max_pool max_pool1d max_pool2d max_pool3d
    max_pool_with_argmax moments normalize_moments pool relu relu6 selu separable_conv2d sigmoid
    sigmoid_cross_entropy_with_logits silu softmax softmax_cross_entropy_with_logits softplus softsign
    space_to_batch space_to_depth sparse_softmax_cross_entropy_with_logits sufficient_statistics swish tanh top_k
    weighted_moments zero_fraction
    """,
    "image.": """
    adjust_brightness adjust_contrast adjust_gamma adjust_hue adjust_saturation central_crop convert_image_dtype
    crop_and_resize crop_to_bounding_box extract_patches flip_left_right flip_up_down grayscale_to_rgb hsv_to_rgb
    image_gradients pad_to_bounding_box per_image_standardization resize resize_bicubic resize_bilinear
    resize_nearest_neighbor resize_with_crop_or_pad resize_with_pad rgb_to_grayscale rgb_to_hsv rgb_to_yiq rgb_to_yuv
    rot90 sobel_edges total_variation transpose yiq_to_rgb yuv_to_rgb
    """,
    "linalg.": """
    band_part cholesky cross det diag diag_part einsum eye inv l2_normalize matmul matrix_transpose matvec norm
    normalize qr set_diag svd tensor_diag tensordot trace
    """,
}
CLASSES = frozenset(" ".join((_LAYERS, _OBJECTS, _TRAINING, _OPERATIONS, _VALUES)).split())
"""Names that may stand under ``class_name``."""

FUNCTIONS = frozenset(_FUNCTIONS.split())
"""Names of functions; as an activation a name of `CLASSES` may stand too."""

TENSORFLOW_FUNCTIONS = frozenset(
    f"{version}{module}{name}"
    for module, names in _TENSORFLOW.items()
    for name in names.split()
    for version in ("", "compat.v1.")
) | {"linalg.einsum", "einsum", "matmul", "tensordot"}
"""Functions that a layer of Keras 2 may call."""
