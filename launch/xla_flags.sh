# shellcheck shell=bash
# Compiler flags and environment that published runs use, for each accelerator; sourced by host.sh.
#
#     set_xla_flags a100     a100, h100, h200, tpu-v4, tpu-v5e, tpu-v5p, tpu-v6e; cpu and none set nothing
#
# Anything that is set already wins: variables keep their value, and XLA_FLAGS and LIBTPU_INIT_ARGS are appended to
# these, where the last of two equal flags counts. SELW2S_XLA_FLAGS=off leaves all of it out. None of it has been
# measured with this package: a flag's reason is the one of its source.
#
# Sources:
#   [jax]      docs.jax.dev/en/latest/xla_flags.html and gpu_performance_tips.html
#   [toolbox]  github.com/NVIDIA/JAX-Toolbox, docs/GPU_performance.md (docs.nvidia.com/jax-toolbox)
#   [slurm]    github.com/NVIDIA/JAX-Toolbox, docs/frameworks/maxtext/example_slurm.sub
#   [maxtext]  github.com/AI-Hypercomputer/maxtext, benchmarks/xla_flags_library.py and maxtext_trillium_model_configs.py
#   [v5p]      the same, MaxText/configs/v5p/llama2_70b.sh
#   [v5e]      the same, MaxText/configs/v5e/llama2_13b.sh
#   [xla]      openxla.org/xla/determinism

set_xla_flags() {
  [[ ${SELW2S_XLA_FLAGS:-on} == off ]] && return
  case $1 in
    a100 | h100 | h200) _set_gpu_flags ;;
    tpu-v4 | tpu-v5e) _set_tpu_flags ;;
    tpu-v5p) _set_tpu_flags "${_V5P_FLAGS[@]}" ;;
    tpu-v6e) _set_tpu_flags "${_V6E_FLAGS[@]}" ;;
    cpu | none) ;;
    *)
      echo "error: no XLA flags are known for '$1': a100, h100, h200, tpu-v4, tpu-v5e, tpu-v5p, tpu-v6e, cpu or none" >&2
      return 2
      ;;
  esac
}

_GPU_FLAGS=(
  # Moves collectives so that they run beside computation [jax, toolbox: set in NVIDIA's images].
  --xla_gpu_enable_latency_hiding_scheduler=true
  # Pipelines the collectives of a loop over its iterations, here the scan over layers [toolbox, slurm].
  --xla_gpu_enable_pipelined_all_gather=true
  --xla_gpu_enable_pipelined_reduce_scatter=true
  --xla_gpu_enable_pipelined_all_reduce=true
  # Small collectives become one, large enough for the links: at least the weights of one layer, 630 MB for a layer of
  # Qwen-14B in bfloat16 [jax, toolbox: the rule; slurm: the values].
  --xla_gpu_all_gather_combine_threshold_bytes=1073741824
  --xla_gpu_all_reduce_combine_threshold_bytes=1073741824
  --xla_gpu_reduce_scatter_combine_threshold_bytes=134217728
  # ... whichever dimension they gather or scatter [jax: the meaning; slurm].
  --xla_gpu_enable_all_gather_combine_by_dim=false
  --xla_gpu_enable_reduce_scatter_combine_by_dim=false
  # Scatters, matrix products and attention in implementations whose result is the same at each run [xla]; a run that
  # was stopped and went on is to end like one that was not.
  --xla_gpu_exclude_nondeterministic_ops=true
)
# Published too, and left out: --xla_gpu_enable_while_loop_double_buffering=true holds two layers at a time,
# --xla_disable_hlo_passes=rematerialization and an empty --xla_gpu_enable_command_buffer switch off what saves memory
# and launches.

_set_gpu_flags() {
  export XLA_FLAGS="${_GPU_FLAGS[*]}${XLA_FLAGS:+ $XLA_FLAGS}"
  # One queue keeps the order of launches that the scheduler planned [toolbox, slurm; not on Blackwell].
  export CUDA_DEVICE_MAX_CONNECTIONS="${CUDA_DEVICE_MAX_CONNECTIONS:-1}"
  # JAX takes this share of the memory at the start; the rest is for NVIDIA's libraries [toolbox, slurm].
  export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.9}"
}

_TPU_FLAGS=(
  # All-gathers run beside the matrix products that need them next, in several steps, on one core
  # [jax: the meaning; maxtext: CF_FOR_ALL_GATHER, "enabled by default but lets make sure"; v5e, v5p].
  --xla_tpu_enable_async_collective_fusion=true
  --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true
  --xla_tpu_enable_async_collective_fusion_multiple_steps=true
  --xla_tpu_overlap_compute_collective_tc=true
  --xla_enable_async_all_gather=true
)
_V5P_FLAGS=(
  # Leaves all-gathers out of the fusion of v5p's two cores [jax: the meaning; v5p].
  --xla_tpu_megacore_fusion_allow_ags=false
  # Permutes run beside computation too [jax: the meaning; v5p].
  --xla_enable_async_collective_permute=true
)
_V6E_FLAGS=(
  # More of v6e's larger vector memory for each operation [maxtext: DENSE_VMEM_LIMIT_FLAG, in all its dense models].
  --xla_tpu_scoped_vmem_limit_kib=98304
)
# Published too, and left out: what is for several slices over the data center network, and offloading to SparseCores.

_set_tpu_flags() {
  local flags=("${_TPU_FLAGS[@]}" "$@")
  export LIBTPU_INIT_ARGS="${flags[*]}${LIBTPU_INIT_ARGS:+ $LIBTPU_INIT_ARGS}"
}
