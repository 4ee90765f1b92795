"""The faults of tests/mutations.py: single lines that a test must notice."""

TWO_PASSES = "test_model.py::test_inversion_equals_two_full_passes"
EDITED = "test_model.py::test_edit_aligns_the_residual_of_the_source_to_the_edited_image"
ALIGNMENT = "test_wavelet_loss.py::test_alignment_loss"
TERMS = "test_eq2.py::test_every_term_and_the_total_by_value"
NETWORKS = "test_eq2.py::test_lpips_and_identity_by_value"
LOOP = "test_training_loop.py::test_steps_are_the_textbooks"
PUBLISHED = "test_swagan.py::test_generator_equals_the_published_formulation"
TWINS = "test_chain.py::test_every_function_equals_its_onnx_twin"

# File -> (old, new, tests): `old` becomes `new`; of the tests (files and names below tests/) one must fail.
# fmt: off
FAULTS: dict[str, list[tuple[str, str, str]]] = {
    # The only place where the parts meet.
    "wagi/model.py": [
        ("return offsets + self.generator.latent_avg", "return offsets", TWO_PASSES),
        ("resize(naive.clamp(-1, 1), self", "resize(naive, self", TWO_PASSES),
        ("self.aligner(residual, self", "self.aligner(0 * residual, self", TWO_PASSES),
        (", gates=self.fusion(aligned))", ", gates=None)", TWO_PASSES),
        ("(residual, inversion.naive, naive)", "(residual, naive, naive)", EDITED),
        ("F.avg_pool2d(images, factor)", "images[..., ::factor, ::factor]",
         "test_model.py::test_area_resize_is_a_block_mean"),
        ("weights[name] * (1 + offset)", "weights[name] + offset",
         "test_hyperstyle.py::test_the_converted_model_computes_the_published_inversion"),
        ("offsets.detach() + self.encoder(", "self.encoder(",
         "test_restyle.py::test_inference_is_the_published_loop"),
        ("offsets.detach() + self.encoder(", "offsets + self.encoder(",
         "test_restyle.py::test_training_sums_the_steps_and_keeps_gradients_inside_them"),
    ],
    "wagi/evaluation/optimisers.py": [
        ("tuned = copy.deepcopy(generator)", "tuned = generator",
         "test_table1.py::test_tuning_takes_adams_steps_at_fixed_latents"),
    ],
    # Edits of faces in whole photos.
    "runtime/wagi_rt/faces/photos.py": [
        ("image = colours.from_srgb(image, self._profile)", "pass", "test_faces_photos.py"),
    ],
    "runtime/wagi_rt/faces/alignment.py": [
        ("change = change - before[number]", "change = change - 0", "test_faces_photos.py"),
    ],
    "runtime/wagi_rt/videos/steady.py": [
        ("** np.abs(np.arange(-reach, reach + 1))", "** np.maximum(np.arange(-reach, reach + 1), 0)",
         "test_videos_steady.py::test_an_even_motion_is_not_changed_and_does_not_lag"),
        ("number in scenes or", "", "test_videos_steady.py::test_tracks_end_where_a_face_is_another_one"),
    ],
    "runtime/wagi_rt/commands/passes.py": [
        ("track.smoothed(self.weight)", "track.smoothed(1)",
         "test_videos_steady.py::test_smoothing_halves_the_flicker_at_least"),
    ],
    "runtime/wagi_rt/videos/writing.py": [
        ("if not self._window[0] <= begins", "if not 0 <= begins",
         "test_videos_clips.py::test_a_part_of_a_clip_brings_its_part_of_the_sound"),
        ("time_base = self._timing.times[self._count],", "time_base = self._count * 512,",
         "test_videos_clips.py::test_uneven_times_stay"),
    ],
    "runtime/wagi_rt/videos/clips.py": [
        ("EXACT = 0x4 | 0x40000 | 0x2000 | 0x4000", "EXACT = 0x4",
         "test_videos_clips.py::test_an_edit_of_strength_0_only_encodes_again"),
    ],
    "runtime/wagi_rt/commands/edit.py": [
        ("edit(np.zeros_like(self.shifts[0]))", "edit(self.shifts[0])", "test_faces_edit_command.py"),
    ],
    "runtime/wagi_rt/commands/whole.py": [
        ("(of(square.base))", "(square.result.input)", "test_faces_edit_command.py"),
    ],
    # The paper's figures.
    "wagi/experiments/figure9.py": [
        ("if level in levels else high", "if level == levels.start else high",
         "test_figures_8_and_9.py::test_octaves_left_out_are_pywavelets"),
    ],
    "wagi/experiments/rows.py": [
        ("WAVELETS = {7: 8, 9: 4, 11: 2, 13: 1}", "WAVELETS = {7: 8, 9: 4, 11: 1, 13: 1}",
         "test_experiments_rows.py::test_layers_are_those_of_the_paper_at_its_size"),
    ],
    # The table of edits along directions.
    "wagi/experiments/ways.py": [
        ("- shift - ws)", "- ws)", "test_edits_table.py::test_the_table_of_edits"),
    ],
    "wagi/experiments/edits.py": [
        ("k + 0.5 * (before - after)", "k - 0.5 * (before - after)",
         "test_edits_table.py::test_the_lowest_of_a_parabola"),
    ],
    # Losses by themselves.
    "wagi/losses.py": [
        ("_difference(x, y), k + 1)", "_difference(x, y), k)", "test_wavelet_loss.py"),
        ("scale)[..., 1:].sum(", "scale)[..., 0:].sum(", "test_wavelet_loss.py"),
        ("pixels + lambda_wave * wavelet_loss(", "pixels + 0 * wavelet_loss(", ALIGNMENT),
        ("interval * gamma / 2 *", "interval * gamma *", "test_losses.py"),
        (".norm(dim=2).sum(1).mean()", ".norm(dim=2).mean()", "test_losses.py"),
        ("softplus(-_wide(fake_logits))", "-softplus(_wide(fake_logits))", "test_losses.py"),
    ],
    "wagi/haar.py": [
        ("left_sum - right_sum, left_diff - right_diff]", "left_diff - right_diff, left_sum - right_sum]",
         "test_haar.py"),
    ],
    # Eq. 2, the paper's weights, and what ADA is given.
    "wagi/config.py": [
        ("lambda_wave: float = 0.0\n    lambda_lpips: float = 0.8",
         "lambda_wave: float = 0.0\n    lambda_lpips: float = 1.0", NETWORKS),
        ("lambda_wave_ada: float = 0.1", "lambda_wave_ada: float = 0.0", TERMS),
        ("lambda_ada: float = 1.0", "lambda_ada: float = 0.1", TERMS),
        ("distortion: float = 0.15", "distortion: float = 0.3",
         "test_eq2.py::test_the_misalignment_is_a_perspective_of_the_papers_size"),
        ("progressive_every: int = 2000", "progressive_every: int = 1000",
         "test_e4e_recipe.py::test_deltas_are_freed_one_by_one"),
    ],
    "wagi/training/images.py": [
        ("return images * F.avg_pool2d(inside", "return images + 0 * F.avg_pool2d(inside",
         "test_table1.py::test_interest_region_by_value"),
        ('getattr(config, f"lambda_{name}") * term', "term", TERMS),
        ("self.looks(y, x, rng)", "self.looks(x, x, rng)",
         "test_detail_losses.py::test_the_inversion_adds_looks_at_their_weight"),
        ("if config.lambda_wave:", "if False:", TERMS),
        ("(1 - self.arcface(y, x))", "(2 - self.arcface(y, x))", NETWORKS),
    ],
    "wagi/training/inversion.py": [
        ("self._warp(residual, rng)", "residual.clone()",
         "test_eq2.py::test_ada_sees_a_misaligned_residual_and_the_naive_image"),
        ("naive, residual, given)\n\n", "naive, given, given)\n\n", TERMS),
        ('config.lambda_ada * scalars["ada"]', "config.lambda_ada * aligned.abs().mean()", TERMS),
        ("parts[part].requires_grad_(False).eval()", "parts[part].eval()",
         "test_eq2.py::test_each_term_trains_its_parts_and_nothing_frozen"),
        ('("fused", found.image)', '("fused", found.naive)', "test_heldout_numbers.py::test_inversion"),
    ],
    "wagi/training/warp.py": [
        ('padding_mode="zeros"', 'padding_mode="border"',
         "test_warp.py::test_probability_zero_and_outside_is_zero"),
    ],
    # e4e, SWAGAN, distillation and the loop.
    "wagi/training/encoder.py": [
        ("stage = 1 + (step", "stage = 2 + (step",
         "test_e4e_recipe.py::test_the_stage_decides_what_the_encoder_says"),
        ("config.lambda_delta * scalars", "scalars", "test_e4e_recipe.py::test_terms_and_total_by_value"),
        ("(ws.float() - codes).square()", "(ws.float() - codes).abs()",
         "test_teacher.py::test_the_term_and_its_weight_by_value"),
        ("if self.teacher and state", "if False and state",
         "test_teacher.py::test_another_teacher_is_noticed_when_a_run_goes_on"),
        ("discriminator(real), self.discriminator(encoded))",
         "discriminator(encoded), self.discriminator(real))",
         "test_e4e_recipe.py::test_the_discriminator_tells_w_from_codes"),
    ],
    "wagi/training/generator.py": [
        ("0.0, 0.99**ratio", "0.0, 0.99",
         "test_gan_recipe.py::test_optimisers_of_lazily_regularised_networks"),
        ("1 - self.config.latent_avg_beta", "self.config.latent_avg_beta",
         "test_gan_recipe.py::test_latent_avg_follows_the_mean_of_w"),
        ("encoded[:, 0].detach()", "encoded[:, 0]",
         "test_training_stages.py::test_the_mapping_network_follows_the_encoder"),
        ("if torch.is_grad_enabled():\n", "if True:\n",
         "test_distillation.py::test_the_discriminators_phases_leave_latent_avg_alone"),
        ("+ config.lambda_wave * wave)", "+ 0 * wave)",
         "test_distillation.py::test_terms_and_total_by_value"),
    ],
    "wagi/training/loop.py": [
        ("scaler.scale(loss / len(batches))", "scaler.scale(loss)", LOOP),
        ("            self._train_only(optimizer)\n", "", LOOP),
        ("else 1.0\n", "else 0.9\n", LOOP),
    ],
    "wagi/training/flow.py": [
        ("found = flow - warp(view, found)", "found = flow + warp(view, found)",
         "test_training_flow.py::test_a_warped_source_moves_the_flow"),
        ("rng, local=True)[:edits]", "rng, local=False)[:edits]",
         "test_training_flow.py::test_a_plain_image_and_its_warp_are_a_pair_with_its_flow"),
        ("(seen + unknown)", "seen",
         "test_drawn_scenes.py::test_the_photometric_loss_counts_where_nothing_is_known_of_the_view"),
    ],
    "wagi/training/drawn.py": [
        ("turn, first + turn]", "turn, turn]",
         "test_drawn_scenes.py::test_pictures_are_the_generators_at_shifted_latents"),
    ],
    "wagi/training/optim.py": [
        ("lookahead_alpha: float = 0.5", "lookahead_alpha: float = 0.8",
         "test_training_optim.py::test_ranger"),
    ],
    # The page for the browser.
    "runtime/wagi_rt/commands/page.py": [
        ("default-src 'none'", "default-src *", "test_page.py::test_the_page_names_no_other_place"),
        ("args.faces and not models.installed()", "not args",
         "test_page_faces.py::test_without_the_models_it_costs_one_line"),
    ],
    "runtime/wagi_rt/commands/assets.py": [
        ("if hashlib.sha256(content).hexdigest() != HASHES[name]:", "if not content:",
         "test_page.py::test_wrong_assets_cost_one_line"),
    ],
    # Networks, metrics, features.
    "wagi/networks/fusion.py": [
        ("return (1 + g) * x + h", "return g * x + h", "test_fusion.py::test_gate_formula"),
    ],
    "wagi/networks/alignment.py": [
        ("torch.cat((residual, image), dim=1)", "torch.cat((image, residual), dim=1)",
         "test_fusion.py::test_aligner_order_of_channels"),
    ],
    "wagi/networks/flow_alignment.py": [
        ("(1 - gate) * residual + gate * aligned", "gate * aligned",
         "test_flow_alignment.py::test_an_inversion_is_exact"),
        ("flow = factor * _enlarge(", "flow = _enlarge(",
         "test_flow_alignment.py::test_small_images_share_the_flow"),
    ],
    "wagi/networks/full_detail.py": [
        ("warp(images, factor * _enlarged", "warp(images, _enlarged",
         "test_full_detail.py::test_an_edit_against_numpy"),
        ("[1 - alignment.gate,", "[1 + 0 * alignment.gate,",
         "test_full_detail.py::test_an_edit_against_numpy"),
    ],
    "wagi/networks/swagan.py": [
        ("(2 * i + 3, to_rgb)]", "(2 * i + 2, to_rgb)]", PUBLISHED),
        ("res * self.feature_scale <= (size or self.size)", "res <= (size or self.size)",
         "test_early_naive.py::test_it_is_a_smaller_generators_image"),
        ("y.var(dim=0, unbiased=False)", "y.var(dim=0)",
         "test_swagan.py::test_discriminator_equals_the_published_formulation"),
    ],
    "wagi/networks/layers.py": [
        ("padding=(side // 2, 0), count_include_pad=False", "padding=(side // 2, 0)",
         "test_flow_alignment.py::test_the_gate_against_numpy"),
        ("return x + self.weight * noise", "return x", PUBLISHED),
    ],
    "wagi/networks/e4e.py": [
        ("moved = [first + delta for", "moved = [delta for", "test_encoders.py::test_e4e_maps_and_heads"),
    ],
    "wagi/metrics.py": [
        ("DATA_RANGE = 2.0", "DATA_RANGE = 1.0", "test_metrics.py::test_equals_skimage_per_image"),
    ],
    "wagi/features.py": [
        ("[:, :, 35:223, 32:220]", "[:, :, 32:220, 35:223]",
         "test_features.py::test_arcface_crop_and_similarity"),
    ],
    # The chain of the runtime.
    "runtime/wagi_rt/chain.py": [
        ("area_resize(naive.clip(-1, 1), size)", "area_resize(naive, size)", TWINS),
        ("return image_r - naive_r", "return naive_r - image_r", TWINS),
        ("FADE_CHANGE, FADE_SHARE = 0.01, 16", "FADE_CHANGE, FADE_SHARE = 0.02, 16",
         "test_chain.py::test_fading_is_the_models"),
    ],
    "runtime/wagi_rt/session.py": [
        ("np.stack([one.image for one in part])", "np.stack([part[0].image for one in part])",
         "test_runtime_session.py::test_batches_do_not_mix_images"),
        ("probes.require(self.engine, self.edit_chain)", "pass",
         "test_openvino_coordinates.py::test_edits_have_to_pass_45_db_too"),
    ],
    "runtime/wagi_rt/bulk/ledger.py": [
        ('        self._begun.discard(row.get("output"))\n', "",
         "test_bulk.py::test_a_run_that_was_killed_goes_on"),
        ("for place in (*self._begun,", "for place in (*(),",
         "test_bulk.py::test_a_run_that_was_killed_goes_on"),
    ],
    "runtime/wagi_rt/bulk/command.py": [
        (", *(job.by_text or ())", "", "test_bulk_texts.py::test_another_text_is_another_setting"),
    ],
    "runtime/wagi_rt/bulk/pool.py": [
        ("if len(tries) < _TRIES:", "if False:",
         "test_bulk.py::test_a_picture_that_kills_its_worker_is_a_row_and_stops_no_other"),
    ],
    "runtime/plugins/skip_math.h": [
        ("at % 2 ? near + 1 : near - 1", "at % 2 ? near - 1 : near + 1",
         "test_cmake.py::test_configure_build_and_ctest"),
    ],
    "runtime/wagi_rt/pictures.py": [
        ("= np.rint(scaled, out=scaled)", "= scaled",
         "test_runtime_inputs.py::test_values_are_rounded_and_clipped"),
    ],
    "runtime/wagi_rt/haar.py": [
        ("top - bottom, left + right, left - right]", "left + right, top - bottom, left - right]",
         "test_haar_numpy.py"),
    ],
    "runtime/wagi_rt/metrics.py": [
        (".astype(np.float64), k + 1)", ".astype(np.float64), k)", "test_runtime_metrics.py"),
    ],
    "wagi/networks/clip.py": [
        ("end = tokens.argmax(dim=1)", "end = tokens.argmin(dim=1)",
         "test_clip.py::test_every_layout_gives_the_directly_computed_embedding"),
    ],
    "wagi/conversion/clip_files.py": [
        ('for letter in "qkv"]', 'for letter in "kqv"]',
         "test_clip.py::test_every_layout_gives_the_directly_computed_embedding"),
    ],
    "runtime/wagi_rt/directions.py": [
        ("step *= min(1, MOST", "step *= max(1, MOST",
         "test_text_edits.py::test_an_edit_by_text_is_pytorchs"),
    ],
    "wagi/networks/style_space.py": [
        ("start = self.starts[layer]", "start = self.starts[layer - 1]",
         "test_style_offsets.py::test_offsets_are_added_to_the_styles"),
    ],
    "wagi/standins/train_clip.py": [
        ("((~known).astype", "(known.astype",
         "test_portraits_clip.py::test_every_caption_that_is_true_counts"),
    ],
    "runtime/wagi_rt/texts.py": [
        ("best = min(", "best = max(", "test_clip.py::test_merges_are_made_in_the_order_of_their_ranks"),
    ],
    "wagi/editing/judging.py": [
        ("most * max(own, unit)", "most * own",
         "test_find_directions.py::test_the_range_ends_where_another_attribute_or_the_effect_does"),
    ],
}
# fmt: on
