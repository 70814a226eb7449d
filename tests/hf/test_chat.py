"""Few-shot prompts as dialogues: what a model's template makes of them, and templates that want too much."""

import dataclasses
import json

import pytest

from selw2s_jax.data import chat, prompts, tasks
from selw2s_jax.errors import UserError
from selw2s_jax.hf import chat_files, tokenizers
from selw2s_jax.inference import answering

pytest.importorskip("jinja2", reason="install the chat extra")

CHATML = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
# As Llama 2's and Mistral's: BOS, no role but in brackets, a space before answers, turns that alternate.
INST = """\
{{ bos_token }}{% for message in messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}\
{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}\
{% else %}{% generation %}{{ ' ' + message['content'] + eos_token }}{% endgeneration %}{% endif %}{% endfor %}"""
DATED = "{% if strftime_now is defined %}{{ strftime_now('%Y') }}{% else %}undated{% endif %}" + CHATML
TEXTS = ["Q: Is ice water? A: yes", "Q: Is it hot? A: no\nAnd why 10?"]


def template(text: str) -> chat.Template:
    return chat.Template(text, (("bos_token", "<s>"), ("eos_token", "</s>")))


def few_shot(text: str) -> prompts.FewShot:
    return prompts.FewShot("Judge.", (("a", 1), ("b", 0)), "labels", (), template(text))


def write_folder(folder, **settings):
    """A byte-level tokenizer.json with the special tokens of both templates, and a tokenizer_config.json."""
    import tokenizers as library
    from tokenizers import decoders, models, pre_tokenizers

    vocab = {token: i for i, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = library.Tokenizer(models.BPE(vocab, []))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens(["<s>", "</s>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]"])
    folder.mkdir(exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<s>", "eos_token": "</s>"} | settings
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def test_shots_are_turns_and_the_answer_comes_behind_the_beginning_of_the_models():
    assert few_shot(CHATML).prompt("c") == (
        "<|im_start|>user\nJudge.\n\na<|im_end|>\n<|im_start|>assistant\n1<|im_end|>\n"
        "<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n0<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n"
    )
    assert few_shot(CHATML).prompt("c", 0) == (
        "<|im_start|>user\nJudge.\n\nc<|im_end|>\n<|im_start|>assistant\n"
    )
    assert few_shot(CHATML).continuations == ("0", "1")
    assert few_shot(INST).prompt("c", 1) == "<s>[INST] Judge.\n\nb [/INST] 0</s>[INST] c [/INST]"
    assert few_shot(INST).continuations == (" 0", " 1")  # as the shots have them


def test_a_prompt_is_the_same_whenever_it_is_made():
    assert few_shot(DATED).prompt("c").startswith("undated<|im_start|>")


def test_it_is_kept_with_the_form_of_the_prompts():
    form = few_shot(INST)
    assert prompts.FewShot.from_json(json.loads(json.dumps(dataclasses.asdict(form)))) == form
    plain = dataclasses.replace(form, chat=None)
    assert prompts.FewShot.from_json(json.loads(json.dumps(dataclasses.asdict(plain)))) == plain


@pytest.mark.parametrize(
    "text",
    [
        "{{ messages.__class__.__mro__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{% set _ = messages.append('x') %}",
        "{% include '/etc/passwd' %}",
        "{{ 1 / 0 }}",
        "{{ raise_exception('no\nsystem') }}",
        "{% for i in range(10 ** 9) %}{% endfor %}",
        "{% if %}",
        "{{ 1 / 'a' }}",
    ],
)
def test_a_template_that_wants_more_than_its_turns_is_refused_in_one_line(text):
    with pytest.raises(UserError, match=r"chat template .* set fewshot\.chat=off") as caught:
        template(text).render([("user", "a")])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", True),
        ("meta-llama/Llama-2-7b-chat-hf", True),
        ("/models/gemma-2-9b-it", True),
        ("Qwen/Qwen2.5-7B", False),
        ("my-chat/gpt2", False),
        ("unitary-7b", False),
    ],
)
def test_names_of_instruction_tuned_models(name, expected):
    assert chat_files.is_instruct(name) == expected


@pytest.mark.parametrize("by", ["setting", "named", "jinja", "json"])
def test_where_templates_are(tmp_path, by):
    settings = {
        "setting": CHATML,
        "named": [{"name": "tool", "template": "x"}, {"name": "default", "template": CHATML}],
    }
    given = {"chat_template": settings[by]} if by in settings else {}
    folder = write_folder(tmp_path / "model", **given)
    if by == "jinja":
        (folder / "chat_template.jinja").write_text(CHATML)
    if by == "json":
        (folder / "chat_template.json").write_text(json.dumps({"chat_template": CHATML}))
    tokenizer = tokenizers.load_tokenizer(folder)
    found = chat_files.choose("on", "gpt2", tokenizer)
    assert found == template(CHATML) and found == chat_files.choose("auto", "x-instruct", tokenizer)
    assert chat_files.choose("auto", "gpt2", tokenizer) is None
    assert chat_files.choose("off", "x-instruct", tokenizer) is None


def test_without_a_template_auto_is_off_and_on_is_refused(tmp_path):
    tokenizer = tokenizers.load_tokenizer(write_folder(tmp_path / "model"))
    assert chat_files.choose("auto", "x-instruct", tokenizer) is None
    with pytest.raises(UserError, match=r"fewshot\.chat=on: .* has no chat template"):
        chat_files.choose("on", "x-instruct", tokenizer)


def _examples():
    return [tasks.Example(f"t/{i}", f"t/{i}", text, 0) for i, text in enumerate(TEXTS)]


@pytest.mark.parametrize("text", [CHATML, INST])
@pytest.mark.parametrize("bos", ["off", "on"])
def test_bos_is_there_once(tmp_path, text, bos):
    folder = write_folder(tmp_path / "model", chat_template=text)
    tokenizer = tokenizers.load_tokenizer(folder, bos=bos)
    form = dataclasses.replace(few_shot(text), chat=chat_files.choose("on", "m", tokenizer))
    made = answering.make_prompts(tokenizer, form, _examples(), max_length=10_000)
    wanted = bos == "on" or text == INST
    (bos_id,) = tokenizers.load_tokenizer(folder, bos="off").encode("<s>")
    for ids in made.tokens:
        assert list(ids).count(bos_id) == wanted and (ids[0] == bos_id) == wanted


def assert_as_transformers(folder, text):
    """The prompts, and each answer behind them as a turn of the model begins."""
    transformers = pytest.importorskip("transformers")
    reference = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer = tokenizers.load_tokenizer(folder)
    form = dataclasses.replace(few_shot(text), chat=chat_files.choose("on", "m", tokenizer))
    made = answering.make_prompts(tokenizer, form, _examples(), max_length=10_000)
    for example, ids in zip(_examples(), made.tokens, strict=True):
        turns = prompts.chat_turns(form.instruction, form.shots, example.text)
        messages = [{"role": role, "content": content} for role, content in turns]
        begun = reference.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
        assert list(ids[: len(begun)]) == begun
        for label, answer_id in enumerate(made.answer_ids):
            answered = [*messages, {"role": "assistant", "content": str(label)}]
            whole = reference.apply_chat_template(answered, return_dict=False)
            assert whole[: len(ids) + 1] == [*ids, answer_id]


@pytest.mark.slow
@pytest.mark.parametrize("text", [CHATML, INST])
def test_tokens_are_those_of_transformers(tmp_path, text):
    assert_as_transformers(write_folder(tmp_path / "model", chat_template=text), text)


@pytest.mark.slow
def test_tokens_of_a_real_tokenizer_are_those_of_transformers(tmp_path, real_data):
    """Mistral's, which puts BOS itself and has tokens for the brackets."""
    (tmp_path / "tokenizer.json").symlink_to(real_data / "tokenizers" / "mistral-v3" / "tokenizer.json")
    settings = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": INST}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    assert tokenizers.load_tokenizer(tmp_path).bos_id is not None
    assert_as_transformers(tmp_path, INST)
