"""What a ``forward`` body may name: pure tensor functions, and nothing that reaches files, devices, memory or state.

An allow-list, not a block-list: what is not here is refused. Left out on purpose: anything in place (a trailing
underscore), ``out=``; uninitialised or foreign memory (``empty``, ``as_strided``, ``from_file``, ``data_ptr``);
randomness; global switches (``set_*``, autocast, grad modes, seeds); compilers (``compile``, ``jit``, ``vmap``);
quantised, sparse and device-specific variants.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Exist both as ``torch.f(x, ...)`` and ``x.f(...)``.
TENSOR_FUNCTIONS = _names("""
    abs absolute acos acosh add addbmm addcdiv addcmul addmm addmv addr adjoint all allclose amax amin aminmax angle
    any arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort argwhere asin asinh atan atan2
    atanh baddbmm bincount bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor bmm
    broadcast_to ceil cholesky cholesky_inverse cholesky_solve chunk clamp clamp_max clamp_min clip clone conj
    copysign corrcoef cos cosh count_nonzero cov cross cummax cummin cumprod cumsum deg2rad det detach diag
    diag_embed diagflat diagonal diagonal_scatter diff digamma dist div divide dot dsplit eq equal erf erfc erfinv
    exp exp2 expm1 fix flatten flip fliplr flipud float_power floor floor_divide fmax fmin fmod frac frexp gather
    gcd ge ger greater greater_equal gt hardshrink heaviside histc hsplit hypot i0 igamma igammac imag index_add
    index_copy index_fill index_put index_reduce index_select inner inverse is_complex is_floating_point isclose
    isfinite isinf isnan isneginf isposinf isreal kron kthvalue lcm ldexp le lerp less less_equal lgamma log log10
    log1p log2 log_softmax logaddexp logaddexp2 logcumsumexp logdet logical_and logical_not logical_or logical_xor
    logit logsumexp lt masked_fill masked_scatter masked_select matmul matrix_exp matrix_power max maximum mean
    median min minimum mm mode moveaxis movedim msort mul multiply mv mvlgamma nan_to_num nanmean nanmedian
    nanquantile nansum narrow narrow_copy ne neg negative nextafter nonzero norm not_equal numel outer permute pinverse
    polygamma positive pow prelu prod qr quantile rad2deg ravel real reciprocal relu remainder renorm
    repeat_interleave reshape roll rot90 round rsqrt scatter scatter_add scatter_reduce select select_scatter sgn
    sigmoid sign signbit sin sinc sinh slice_scatter slogdet softmax sort split split_with_sizes sqrt square squeeze
    std sub subtract sum svd swapaxes swapdims t take take_along_dim tan tanh tensor_split tile topk trace transpose
    tril triu true_divide trunc unbind unflatten unique unique_consecutive unsqueeze var vdot vsplit where xlogy
""")

#: Only ``x.f(...)`` or ``x.f``.
TENSOR_ATTRIBUTES = _names("""
    H T bfloat16 bool contiguous device dim double dtype element_size expand expand_as float half int is_contiguous
    item itemsize long mH mT nbytes ndim ndimension nelement new_full new_ones new_tensor new_zeros repeat reshape_as
    shape short size stride sum_to_size to type_as unfold values indices view view_as
""")

#: Only ``torch.f(...)``.
TORCH_FUNCTIONS = _names("""
    adaptive_avg_pool1d adaptive_max_pool1d arange as_tensor atleast_1d atleast_2d atleast_3d avg_pool1d batch_norm
    bilinear block_diag broadcast_shapes broadcast_tensors bucketize cartesian_prod cat cdist celu chain_matmul
    column_stack complex concat concatenate constant_pad_nd conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    conv_transpose3d convolution cosine_embedding_loss cosine_similarity cumulative_trapezoid dsmm dstack einsum eye
    finfo frobenius_norm full full_like group_norm hinge_embedding_loss hstack iinfo instance_norm is_tensor isin
    kl_div layer_norm linspace logspace margin_ranking_loss max_pool1d max_pool1d_with_indices max_pool2d max_pool3d
    meshgrid native_batch_norm native_group_norm native_layer_norm ones ones_like pairwise_distance pdist
    pixel_shuffle pixel_unshuffle poisson_nll_loss promote_types result_type rms_norm row_stack rsub scalar_tensor
    searchsorted selu stack std_mean tensor tensordot threshold trapezoid tril_indices triplet_margin_loss
    triu_indices var_mean vander view_as_complex view_as_real vstack zeros zeros_like
""")

#: ``torch.x`` values that are not functions.
TORCH_CONSTANTS = _names("""
    bfloat16 bool channels_last channels_last_3d contiguous_format double e float float16 float32 float64 half inf
    int int16 int32 int64 int8 long nan pi preserve_format short uint8
""")

#: ``torch.nn.functional.f``, ``nn.functional.f`` and ``F.f``.
NN_FUNCTIONS = _names("""
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d batch_norm bilinear binary_cross_entropy
    binary_cross_entropy_with_logits celu channel_shuffle conv1d conv2d conv3d conv_transpose1d conv_transpose2d
    conv_transpose3d cosine_embedding_loss cosine_similarity cross_entropy ctc_loss elu embedding fold
    gaussian_nll_loss gelu glu group_norm hardshrink hardsigmoid hardswish hardtanh hinge_embedding_loss huber_loss
    instance_norm interpolate kl_div l1_loss layer_norm leaky_relu linear local_response_norm log_softmax logsigmoid
    lp_pool1d lp_pool2d lp_pool3d margin_ranking_loss max_pool1d max_pool2d max_pool3d mish mse_loss
    multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss nll_loss normalize one_hot pad
    pairwise_distance pdist pixel_shuffle pixel_unshuffle poisson_nll_loss prelu relu relu6 rms_norm
    scaled_dot_product_attention selu sigmoid silu smooth_l1_loss soft_margin_loss softmax softmin softplus
    softshrink softsign tanh tanhshrink threshold triplet_margin_loss unfold
""")

#: Modules without weights that a body may build and call: ``nn.ReLU()(x)``.
NN_MODULES = _names("""
    AvgPool1d AvgPool2d AvgPool3d CELU CosineSimilarity CrossEntropyLoss ELU Flatten GELU GLU Hardshrink Hardsigmoid
    Hardswish Hardtanh HuberLoss KLDivLoss L1Loss LeakyReLU LogSigmoid LogSoftmax MSELoss MaxPool1d MaxPool2d
    MaxPool3d Mish NLLLoss ReLU ReLU6 SELU SiLU Sigmoid SmoothL1Loss Softmax Softmin Softplus Softshrink Softsign
    Tanh Tanhshrink Threshold TripletMarginLoss
""")

LINALG_FUNCTIONS = _names("""
    cholesky cross det diagonal inv matmul matrix_exp matrix_norm matrix_power multi_dot norm pinv qr slogdet solve
    solve_triangular svd svdvals vecdot vector_norm
""")

SPECIAL_FUNCTIONS = _names("""
    digamma entr erf erfc erfcx erfinv exp2 expit expm1 gammaln i0 i0e i1 i1e log1p log_ndtr log_softmax logit
    logsumexp ndtr ndtri polygamma psi round sinc softmax xlog1py xlogy zeta
""")

MATH_NAMES = _names("ceil cos e exp floor inf isqrt log log10 log1p log2 nan pi pow prod sin sqrt tanh")

#: Attributes of a reference's submodules (``self.conv2d.weight``) that a body may read.
MODULE_ATTRIBUTES = _names("""
    affine alpha bias ceil_mode dilation dim elementwise_affine eps groups in_channels kernel_size margin momentum
    negative_slope normalized_shape num_channels num_features num_groups out_channels output_padding p padding
    running_mean running_var stride weight
""")

BUILTINS = _names("abs bool enumerate float int len list max min pow range reversed round slice sum tuple zip")

#: Dotted roots and what may follow them.
NAMESPACES: dict[str, frozenset[str]] = {
    "torch": TENSOR_FUNCTIONS | TORCH_FUNCTIONS | TORCH_CONSTANTS,
    "torch.nn.functional": NN_FUNCTIONS,
    "nn.functional": NN_FUNCTIONS,
    "F": NN_FUNCTIONS,
    "torch.nn": NN_MODULES,
    "nn": NN_MODULES,
    "torch.linalg": LINALG_FUNCTIONS,
    "torch.special": SPECIAL_FUNCTIONS,
    "math": MATH_NAMES,
}

#: Keywords that no call may carry.
FORBIDDEN_KEYWORDS = _names("out generator pin_memory requires_grad")
