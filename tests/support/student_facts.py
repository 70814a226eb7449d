"""What is known of a student."""

from selw2s_jax.run import students

FACTS = students.Facts(
    task="sciq",
    method="selective",
    seed=3,
    weak="gpt2",
    strong="qwen-14b",
    role="strong",
    has_class_head=True,
    has_p_ik_head=True,
    prompt="bare",
    instruction="",
    shots=(),
    max_length=19,
    openai_pooling=False,
    param_dtype="float32",
    compute_dtype="float32",
    base_fingerprint="abc",
)
