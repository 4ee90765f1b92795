"""The faults of tests/mutations.py in `export/`, as those of tests/faults.py."""

from faults import TWINS

WHOLE = "test_export_formulation.py::test_whole_inversion"
SYNTHESIS = "test_export_formulation.py::test_generator_prefix_and_gated_suffix"
HEADS = "test_int8_layers.py::test_heads_are_what_depends_on_the_residual_alone"
JUDGED = "test_export_int8.py::test_comparison_judges_pictures_by_the_gate"
GATE = "test_export_int8.py::test_the_manifest_says_it"

# fmt: off
EXPORT_FAULTS: dict[str, list[tuple[str, str, str]]] = {
    "export/graphs.py": [
        ("last.bias + 1,", "last.bias,", WHOLE),
        ("self.low_fidelity(naive)", "naive", WHOLE),
    ],
    "export/synthesis.py": [
        ("if gates.post_skip:", "if False:", SYNTHESIS),
        ("_GAIN = math.sqrt(2)", "_GAIN = 1.0", SYNTHESIS),
        ("return g * x + h", "return x + h", SYNTHESIS),
    ],
    "export/glue.py": [
        ("[nodes.scalar(-1), nodes.scalar(1)]", "[nodes.scalar(-2), nodes.scalar(2)]", TWINS),
    ],
    "export/skip.py": [
        ("return coefficients + self.layer.resample(skip)", "return self.layer.resample(skip)",
         "test_export_skip.py::test_a_form_in_an_engine"),
    ],
    "export/comparison.py": [
        ('    return rows + _mixed(judge, wanted[PIPELINE][0], count)', '    return rows',
         "test_compare.py::test_every_backend_every_graph_every_batch"),
        ("wanted.setdefault(PIPELINE, ", "wanted.update(pipeline=",
         "test_compare.py::test_the_stored_values_hold_the_pipeline_and_the_edit"),
        ("int8.limit_psnr_db if pictures else", "0.0 if pictures else", JUDGED),
    ],
    "export/int8.py": [
        ('"heads": ("decode", PIPELINE, EDIT)', '"heads": ("decode", PIPELINE)', JUDGED),
        ('or reads == {"aligned"}', 'or "aligned" in reads', HEADS),
        ("if before[name] and name in followed", "if before[name]", HEADS),
        ("reduce_range=True", "reduce_range=False",
         "test_export_int8.py::test_weights_leave_room_for_two_products"),
        ("per_channel=True", "per_channel=False", "test_int8_layers.py::test_weights_are_int8_by_channel"),
        ('inner(proto, layers) if part == "heads" else layers', "layers",
         "test_export_int8.py::test_the_named_layers_are_int8_wherever_they_stand_and_no_others"),
        ("if not min(found.values()) >= LIMIT_DB:", "if max(found.values()) < LIMIT_DB - 99:",
         "test_export_int8.py::test_a_model_below_the_gate_is_refused"),
        ('wanted[PIPELINE][1]["result"]).tolist()', 'wanted[EDIT][1]["result"]).tolist()', GATE),
        ('wanted[EDIT][1]["result"]).tolist()', 'result["result"]).tolist()', GATE),
    ],
    "export/to_onnx.py": [
        ('"seeded patterns (no --held-out)"', '"held-out pictures"', "test_export_int8.py::test_the_command"),
        ("if not args.calibrate:", "if False:", "test_export_int8.py::test_wrong_usage_is_one_line"),
    ],
    "export/weights.py": [
        ("continue  # engines look for scales that are constants", "pass",
         "test_int8_layers.py::test_long_scales_are_constants"),
    ],
    "export/to_engine.py": [
        ("if manifest.int8:", "if False:", "test_export_int8.py::test_tensorrt_engines_are_refused"),
    ],
    "export/triton_model.py": [
        ("np.stack([step for step in steps if", "np.stack([step for step in steps[::-1] if",
         "test_to_triton.py::test_mixed_requests_together_give_what_each_gives_alone"),
        ("self.texts.direction(text, neutral or None)", "self.texts.direction(text)",
         "test_triton_texts.py::test_texts_and_strengths_share_a_batch"),
    ],
}
# fmt: on
