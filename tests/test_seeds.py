"""The three shipped workflows: what exactly each sends to fal for what a user chose."""

import json
import re
from decimal import Decimal
from pathlib import Path

import jsonschema
import pytest

from i2i import forms

ROOT = Path(__file__).resolve().parent.parent
SEEDS = ROOT / "i2i" / "seeds"
PHOTO = "https://v3.fal.media/files/a/token-0.jpg"
REFERENCES = [f"https://v3.fal.media/files/a/token-{at}.jpg" for at in (1, 2, 3)]

FAL_SCHEMAS = {
    "mannequin-to-human-v1": "qwen-image-edit-2511",
    "mannequin-to-human-v2": "nano-banana-pro-edit",
    "apparel-enhancement": "clarity-upscaler",
}

LIGHT = {
    "studio": "studio lighting",
    "natural": "natural light",
    "dramatic": "dramatic lighting",
    "soft": "soft light",
    "golden_hour": "golden hour light",
}
BACKGROUND = {
    "studio_white": "studio white background",
    "outdoor_natural": "outdoor natural setting",
    "urban_street": "urban street",
    "home_interior": "home interior",
}
STRENGTH = {
    0: "as shot", 12: "as shot", 13: "light", 25: "light", 37: "light", 38: "balanced",
    50: "balanced", 62: "balanced", 63: "strong", 75: "strong", 87: "strong", 88: "restyled",
    100: "restyled",
}  # fmt: skip
MODEL = {
    "presentation": {
        "feminine": "a real adult feminine fashion model",
        "masculine": "a real adult masculine fashion model",
        "androgynous": "a real adult androgynous fashion model",
    },
    "age_range": {
        "18_25": ", 18 to 25 years old",
        "26_40": ", 26 to 40 years old",
        "41_60": ", 41 to 60 years old",
        "over_60": ", over 60 years old",
    },
    "skin_tone": {
        "light": ", with light skin",
        "medium": ", with medium skin",
        "olive": ", with olive skin",
        "brown": ", with brown skin",
        "dark": ", with dark skin",
    },
    "body_type": {
        "slim": ", of slim build",
        "average": ", of average build",
        "athletic": ", of athletic build",
        "plus_size": ", of plus-size build",
    },
}
STYLE = {
    "as shot": "keep camera angle, framing and stance of image 1 and the simplest possible "
    "surroundings.",
    "light": "keep the camera angle and framing of image 1, with a quiet standing pose and plain, "
    "sparse surroundings.",
    "balanced": "keep the side of the garment that image 1 shows, with a relaxed, natural pose and "
    "believable surroundings.",
    "strong": "a confident fashion pose and surroundings finished like a shop's campaign, the "
    "garment seen from the same side as in image 1.",
    "restyled": "an editorial fashion photograph with free pose, framing and atmosphere, the "
    "garment still seen from the same side as in image 1.",
}
LIGHT_WORDS = {
    "studio": "studio lighting, even and clean, with true colours",
    "natural": "natural light, as on a bright day, with true colours",
    "dramatic": "dramatic lighting, directional with deep shadows that leave the garment readable",
    "soft": "soft light, diffuse and low in contrast",
    "golden_hour": "golden hour light, low and warm on the person and surroundings, the garment's "
    "own colours still recognisable",
}
BACKGROUND_WORDS = {
    "studio_white": "studio white background, seamless, with a faint contact shadow",
    "outdoor_natural": "outdoor natural setting, greenery out of focus",
    "urban_street": "urban street, calm and out of focus",
    "home_interior": "home interior, tidy and out of focus",
}
GARMENT = (
    "The person has a natural face, real skin texture, correct hands and believable proportions; "
    "nothing of the mannequin, its neck cap or its stand remains. The garment must stay identical "
    "to image 1: the same cut, fit, length and neckline; the same colours, print, pattern scale "
    "and placement; every logo and letter unchanged; the same fabric, weave and texture; the same "
    "seams, stitching, pleats, hems, pockets, buttons, zips and other closures, open or closed as "
    "photographed. Do not add, remove, recolour, restyle, tuck or roll up any part of it, and do "
    "not cover it with hair, hands or accessories. Only let it fall on a living body as this "
    "fabric would. Anything worn with it is plain, neutral and unobtrusive. Keep the whole garment "
    "in the frame with space around it; extend the background rather than crop."
)
REFERENCE_WORDS = {
    0: "",
    1: " Image 2 is a reference for pose and mood only: never take a garment, colour, print, "
    "person or face from there.",
    2: " Images 2 and 3 are references for pose and mood only: never take a garment, colour, "
    "print, person or face from there.",
    3: " Images 2, 3 and 4 are references for pose and mood only: never take a garment, colour, "
    "print, person or face from there.",
}


def load(name):
    text = (SEEDS / f"{name}.toml").read_text(encoding="utf-8")
    return forms.parse_definition(forms.load_document(text, format="toml"))


def fal_schema(name):
    path = ROOT / "tests" / "fal_schemas" / f"{FAL_SCHEMAS[name]}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def request(name, values, references=0):
    """What is sent when a user fills the form with these values; always valid for fal."""
    definition = load(name)
    parameters = forms.parse_form(
        definition.parameter_schema,
        definition.default_parameters,
        {key: str(value) for key, value in values.items()},
    )
    sent = forms.render_request(
        definition.request_template,
        parameters=parameters,
        image_urls=[PHOTO],
        references=REFERENCES[:references],
    )
    jsonschema.Draft202012Validator(fal_schema(name)).validate(sent)
    return sent


def prompt(
    *, light="studio", background="studio_white", style="strong", who="a real adult fashion model",
    references=0,
):  # fmt: skip
    return (
        f"Replace the mannequin in image 1 with {who}, who wears exactly the garment of image 1. "
        f"{GARMENT}{REFERENCE_WORDS[references]} Style {style}: {STYLE[style]} "
        f"Lighting: {LIGHT_WORDS[light]}. Background: {BACKGROUND_WORDS[background]}. "
        "Photorealistic; the pose and the surroundings may change, the garment may not."
    )


NEGATIVE = (
    "mannequin, dress form, stand, headless figure, plastic skin, extra fingers, deformed hands, "
    "changed garment, changed colour, changed print, misspelled logo, added accessories, cropped "
    "garment, text overlay, watermark"
)


def qwen(*, size=(1152, 864), steps=28, guidance=4.5, references=0, extra=None, **words):
    return {
        "image_urls": [PHOTO, *REFERENCES[:references]],
        "num_images": 1,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "enable_safety_checker": True,
        "output_format": "png",
        "image_size": {"width": size[0], "height": size[1]},
        "negative_prompt": NEGATIVE,
        "prompt": prompt(references=references, **words),
        **(extra or {}),
    }


V1 = [
    ({}, 0, qwen()),
    ({"aspect_ratio": "1:1"}, 0, qwen(size=(992, 992))),
    ({"aspect_ratio": "3:4"}, 0, qwen(size=(864, 1152))),
    ({"aspect_ratio": "16:9"}, 0, qwen(size=(1280, 720))),
    ({"aspect_ratio": "9:16"}, 0, qwen(size=(720, 1280))),
    (
        {"aspect_ratio": "custom", "custom_width": 600, "custom_height": 2048},
        0,
        qwen(size=(600, 2048)),
    ),
    # A custom size left over in the form counts for nothing while another shape is chosen.
    ({"aspect_ratio": "4:3", "custom_width": 600}, 0, qwen()),
    ({"style_strength": 0}, 0, qwen(style="as shot")),
    ({"style_strength": 20}, 0, qwen(style="light")),
    ({"style_strength": 50}, 0, qwen(style="balanced")),
    ({"style_strength": 100}, 0, qwen(style="restyled")),
    ({"lighting_style": "natural"}, 0, qwen(light="natural")),
    ({"lighting_style": "dramatic"}, 0, qwen(light="dramatic")),
    (
        {"lighting_style": "soft", "background_setting": "home_interior"},
        0,
        qwen(light="soft", background="home_interior"),
    ),
    (
        {"lighting_style": "golden_hour", "background_setting": "outdoor_natural"},
        0,
        qwen(light="golden_hour", background="outdoor_natural"),
    ),
    ({"background_setting": "urban_street"}, 0, qwen(background="urban_street")),
    ({"seed": 0}, 0, qwen(extra={"seed": 0})),
    ({"seed": 2147483647}, 0, qwen(extra={"seed": 2147483647})),
    ({"seed": ""}, 0, qwen()),
    ({"steps": 50, "guidance": 1}, 0, qwen(steps=50, guidance=1)),
    ({"steps": 1, "guidance": "19.75"}, 0, qwen(steps=1, guidance=19.75)),
    ({}, 1, qwen(references=1)),
    ({}, 2, qwen(references=2)),
    ({}, 3, qwen(references=3)),
    (
        {
            "presentation": "feminine",
            "age_range": "41_60",
            "skin_tone": "brown",
            "body_type": "plus_size",
        },
        0,
        qwen(
            who="a real adult feminine fashion model, 41 to 60 years old, with brown skin, "
            "of plus-size build"
        ),
    ),
]


@pytest.mark.parametrize(("values", "references", "expected"), V1)
def test_v1_sends_exactly_this(values, references, expected):
    assert request("mannequin-to-human-v1", values, references) == expected


def nano(*, ratio="4:3", resolution="2K", references=0, extra=None, **words):
    return {
        "image_urls": [PHOTO, *REFERENCES[:references]],
        "num_images": 1,
        "aspect_ratio": ratio,
        "resolution": resolution,
        "output_format": "png",
        "limit_generations": True,
        "prompt": prompt(references=references, **words),
        **(extra or {}),
    }


V2 = [
    ({}, 0, nano()),
    ({"aspect_ratio": "1:1"}, 0, nano(ratio="1:1")),
    ({"aspect_ratio": "3:4"}, 0, nano(ratio="3:4")),
    ({"aspect_ratio": "16:9"}, 0, nano(ratio="16:9")),
    ({"aspect_ratio": "9:16"}, 0, nano(ratio="9:16")),
    ({"resolution": "1K"}, 0, nano(resolution="1K")),
    ({"resolution": "4K", "seed": 7}, 0, nano(resolution="4K", extra={"seed": 7})),
    ({"style_strength": 5}, 0, nano(style="as shot")),
    ({"style_strength": 90}, 0, nano(style="restyled")),
    ({"lighting_style": "soft"}, 0, nano(light="soft")),
    ({"background_setting": "urban_street"}, 0, nano(background="urban_street")),
    ({}, 3, nano(references=3)),
    (
        {"presentation": "masculine", "body_type": "athletic"},
        1,
        nano(references=1, who="a real adult masculine fashion model, of athletic build"),
    ),
]


@pytest.mark.parametrize(("values", "references", "expected"), V2)
def test_v2_sends_exactly_this(values, references, expected):
    assert request("mannequin-to-human-v2", values, references) == expected


def clarity(*, factor=2, creativity=0.15, resemblance=0.85, extra=None):
    return {
        "image_url": PHOTO,
        "upscale_factor": factor,
        "creativity": creativity,
        "resemblance": resemblance,
        "enable_safety_checker": True,
        "prompt": "Product photograph of clothing, true to the original: crisp weave and fibre "
        "texture, clean seams and stitching, sharp edges of print, logo and lettering, unchanged "
        "colours, shape and folds",
        "negative_prompt": "changed colour, changed pattern, changed lettering, invented texture, "
        "plastic cloth, smooth cloth, blur, noise, halo, compression artefacts",
        **(extra or {}),
    }


CLARITY = [
    ({}, clarity()),
    ({"upscale_factor": 1}, clarity(factor=1)),
    ({"upscale_factor": "1.5"}, clarity(factor=1.5)),
    ({"upscale_factor": 4}, clarity(factor=4)),
    ({"style_strength": 0}, clarity(creativity=0.0, resemblance=1.0)),
    ({"style_strength": 1}, clarity(creativity=0.005, resemblance=0.995)),
    ({"style_strength": 70}, clarity(creativity=0.35, resemblance=0.65)),
    ({"style_strength": 100}, clarity(creativity=0.5, resemblance=0.5)),
    ({"seed": 3}, clarity(extra={"seed": 3})),
]


@pytest.mark.parametrize(("values", "expected"), CLARITY)
def test_enhancement_sends_exactly_this(values, expected):
    assert request("apparel-enhancement", values) == expected


@pytest.mark.parametrize("name", FAL_SCHEMAS)
def test_shipped_workflows_hold(name):
    definition = load(name)
    forms.check_definition(definition)
    assert definition.id == name
    assert definition.is_active is (name != "apparel-enhancement")
    assert forms.parse_definition(forms.dump_document(definition)) == definition
    # Exported as JSON and applied again, it is the same workflow.
    text = json.dumps(forms.dump_document(definition))
    assert forms.parse_definition(forms.load_document(text, format="json")) == definition


def test_every_seed_file_is_one_of_these():
    assert {path.stem for path in SEEDS.glob("*.toml")} == set(FAL_SCHEMAS)


@pytest.mark.parametrize("name", ["mannequin-to-human-v1", "mannequin-to-human-v2"])
class TestVocabulary:
    def test_each_light_is_named_and_no_other(self, name):
        for value, words in LIGHT.items():
            text = request(name, {"lighting_style": value}, 3)["prompt"]
            assert [word for word in LIGHT.values() if word in text] == [words]

    def test_each_background_is_named_and_no_other(self, name):
        for value, words in BACKGROUND.items():
            text = request(name, {"background_setting": value}, 3)["prompt"]
            assert [word for word in BACKGROUND.values() if word in text] == [words]

    def test_each_strength_falls_into_its_bucket(self, name):
        for value, word in STRENGTH.items():
            text = request(name, {"style_strength": value})["prompt"]
            assert re.findall(r"Style ([a-z ]+):", text) == [word]

    def test_each_model_option_is_named(self, name):
        schema = load(name).parameter_schema["properties"]
        plain = request(name, {})["prompt"]
        for parameter, words in MODEL.items():
            assert schema[parameter]["enum"] == ["any", *words]
            for value, phrase in words.items():
                assert phrase not in plain
                assert phrase in request(name, {parameter: value})["prompt"]

    def test_all_choices_of_the_schema_are_tried_here(self, name):
        schema = load(name).parameter_schema["properties"]
        assert schema["lighting_style"]["enum"] == list(LIGHT)
        assert schema["background_setting"]["enum"] == list(BACKGROUND)

    def test_the_garment_is_kept_whatever_is_chosen(self, name):
        for strength in STRENGTH:
            assert GARMENT in request(name, {"style_strength": strength}, 3)["prompt"]


def test_v1_shapes_are_exact_and_cost_one_unit():
    definition = load("mannequin-to-human-v1")
    for shape in ("1:1", "4:3", "3:4", "16:9", "9:16"):
        size = request("mannequin-to-human-v1", {"aspect_ratio": shape})["image_size"]
        across, down = map(int, shape.split(":"))
        assert size["width"] * down == size["height"] * across
        assert size["width"] % 16 == size["height"] % 16 == 0
        assert 900_000 < size["width"] * size["height"] <= 1_000_000
        price = forms.estimate(definition, parameters={"aspect_ratio": shape})
        assert price == Decimal("0.03")


@pytest.mark.parametrize(
    ("name", "values", "size", "price"),
    [
        ("mannequin-to-human-v1", {}, None, "0.03"),
        (
            "mannequin-to-human-v1",
            {"aspect_ratio": "custom", "custom_width": "1000", "custom_height": "1001"},
            None,
            "0.06",
        ),
        (
            "mannequin-to-human-v1",
            {"aspect_ratio": "custom", "custom_width": "2048", "custom_height": "2048"},
            (10, 10),
            "0.15",
        ),
        ("mannequin-to-human-v2", {}, None, "0.15"),
        ("mannequin-to-human-v2", {"resolution": "1K"}, None, "0.15"),
        ("mannequin-to-human-v2", {"resolution": "4K"}, None, "0.30"),
        ("apparel-enhancement", {}, (1000, 1000), "0.12"),
        ("apparel-enhancement", {}, (1000, 1001), "0.15"),
        ("apparel-enhancement", {"upscale_factor": "1"}, (100, 100), "0.03"),
        # 6000 x 4500 is scaled to 1760 x 1320, doubled: 9.3 megapixels, ten of them.
        ("apparel-enhancement", {}, (6000, 4500), "0.30"),
        ("apparel-enhancement", {"upscale_factor": "4"}, (9000, 9000), "1.50"),
    ],
)
def test_prices(name, values, size, price):
    definition = load(name)
    parameters = forms.parse_form(
        definition.parameter_schema, definition.default_parameters, values
    )
    width, height = size or (None, None)
    assert forms.estimate(definition, parameters=parameters, width=width, height=height) == Decimal(
        price
    )


def test_price_is_unknown_without_the_photo_it_depends_on():
    definition = load("apparel-enhancement")
    assert forms.estimate(definition, parameters=definition.default_parameters) is None


def test_enhancement_never_passes_fifty_megapixels():
    definition = load("apparel-enhancement")
    factor = definition.parameter_schema["properties"]["upscale_factor"]["maximum"]
    assert (definition.max_side * factor) ** 2 <= 50_000_000


def test_form_of_v1():
    definition = load("mannequin-to-human-v1")
    drawn = forms.fields(definition.parameter_schema, definition.default_parameters)
    assert [(item.name, item.label, item.kind, item.group) for item in drawn] == [
        ("aspect_ratio", "Shape", "shape", "Picture"),
        ("custom_width", "Width", "integer", "Picture"),
        ("custom_height", "Height", "integer", "Picture"),
        ("style_strength", "Style strength", "integer", "Picture"),
        ("lighting_style", "Light", "choice", "Picture"),
        ("background_setting", "Background", "choice", "Picture"),
        ("presentation", "Presentation", "choices_select", "Model"),
        ("age_range", "Age", "choices_select", "Model"),
        ("skin_tone", "Skin tone", "choices_select", "Model"),
        ("body_type", "Build", "choices_select", "Model"),
        ("seed", "Seed", "integer", "Advanced"),
        ("steps", "Steps", "integer", "Advanced"),
        ("guidance", "Guidance", "number", "Advanced"),
    ]
    by_name = {item.name: item for item in drawn}
    assert [item.name for item in drawn if item.advanced] == ["seed", "steps", "guidance"]
    assert [item.name for item in drawn if not item.required] == ["seed"]
    assert by_name["custom_width"].when == {"aspect_ratio": "custom"}
    assert by_name["style_strength"].widget == "slider"
    assert by_name["style_strength"].choices[0] == ("0", "as shot")
    assert by_name["lighting_style"].choices[-1] == ("golden_hour", "Golden hour")
    assert by_name["seed"].default is None


def test_words_of_v1():
    definition = load("mannequin-to-human-v1")
    values = {**definition.default_parameters, "lighting_style": "golden_hour", "seed": 5}
    assert forms.describe(definition.parameter_schema, values) == [
        ("Shape", "4:3"),
        ("Style strength", "75, strong"),
        ("Light", "Golden hour"),
        ("Background", "Studio white"),
        ("Presentation", "Any"),
        ("Age", "Any"),
        ("Skin tone", "Any"),
        ("Build", "Any"),
        ("Seed", "5"),
        ("Steps", "28"),
        ("Guidance", "4.5"),
    ]
    values["aspect_ratio"] = "custom"
    words = dict(forms.describe(definition.parameter_schema, values))
    assert (words["Shape"], words["Width"]) == ("Custom", "864 px")
