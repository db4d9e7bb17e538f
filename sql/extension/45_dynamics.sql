-- The memory models as functions: pure, no table is read. None sets a search path, because each is one
-- computation in C. `heat` is plain bytea, so that a column of it outlives the extension.

-- How much a memory is at hand, from its uses.

CREATE FUNCTION engram.base_level(ages_s double precision[], d double precision DEFAULT 0.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_wrapper';
COMMENT ON FUNCTION engram.base_level(double precision[], double precision) IS
'Base-level activation in nats, exactly: ln of the sum of age^-d over all uses (Anderson & Schooler 1991). -Infinity without uses.

ages_s: ages of the uses in seconds, 0 or more; below 1 they count as 1. d: decay, 0 or more. Other ages, and NULL among them, raise 22023. For a row per use: base_level_agg(); in 80 bytes whatever the number of uses: heat_level().';

CREATE FUNCTION engram_internal.base_level_step(state double precision, accessed_at timestamptz, now timestamptz, d double precision)
RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_step_wrapper';
COMMENT ON FUNCTION engram_internal.base_level_step(double precision, timestamptz, timestamptz, double precision) IS
'Adds one use to the state of engram.base_level_agg(), the sum of age^-d, or its logarithm where that is below -598.';

CREATE FUNCTION engram_internal.base_level_combine(a double precision, b double precision) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_combine_wrapper';
COMMENT ON FUNCTION engram_internal.base_level_combine(double precision, double precision) IS
'Adds two states of engram.base_level_agg().';

CREATE FUNCTION engram_internal.base_level_final(state double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_final_wrapper';
COMMENT ON FUNCTION engram_internal.base_level_final(double precision) IS
'What the state of engram.base_level_agg() says: its logarithm, -Infinity for 0.';

CREATE AGGREGATE engram.base_level_agg(accessed_at timestamptz, now timestamptz, d double precision) (
  SFUNC = engram_internal.base_level_step, STYPE = double precision, INITCOND = '0',
  COMBINEFUNC = engram_internal.base_level_combine, FINALFUNC = engram_internal.base_level_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE engram.base_level_agg(timestamptz, timestamptz, double precision) IS
'Base-level activation in nats at now, exactly, from a row per use. -Infinity without rows.

accessed_at: when it was used; NULL counts for nothing, and uses less than a second ago or after now as a second old. d: decay, 0 or more; NULL for 0.5. Infinite times raise 22023.';

CREATE FUNCTION engram.base_level_optimized(n bigint, age_s double precision, d double precision DEFAULT 0.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_optimized_wrapper';
COMMENT ON FUNCTION engram.base_level_optimized(bigint, double precision, double precision) IS
'Base-level activation in nats as if n uses were spread evenly over age_s seconds: ln(n / (1 - d)) - d ln(age_s) (Anderson & Lebiere 1998). It ignores how recent the uses are and may be off by several nats; for comparison with other systems.

n: 0 or more (0 gives -Infinity). age_s: 0 or more, below 1 counts as 1. d: 0 to less than 1. Anything else raises 22023.';

CREATE FUNCTION engram.base_level_petrov(recent_ages_s double precision[], n bigint, age_created_s double precision,
  d double precision DEFAULT 0.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'base_level_petrov_wrapper';
COMMENT ON FUNCTION engram.base_level_petrov(double precision[], bigint, double precision, double precision) IS
'Base-level activation in nats from the latest uses and the number of all (Petrov 2006). Exact when recent_ages_s has all uses; otherwise it takes the older ones to be spread evenly, and may be off by nats after bursts.

recent_ages_s: ages of the latest uses in seconds, in any order. n: all uses, not less than those. age_created_s: age of the first. d: 0 to less than 1. Anything else raises 22023.';

CREATE FUNCTION engram.retrieval_probability(a double precision, tau double precision, s double precision DEFAULT 0.4) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'retrieval_probability_wrapper';
COMMENT ON FUNCTION engram.retrieval_probability(double precision, double precision, double precision) IS
'Probability, 0 to 1, that a memory of activation a is retrieved: 1 / (1 + exp((tau - a) / s)) (Anderson et al. 2004).

a, tau: activation and threshold in nats; a memory used once is even odds at age T with tau = -d ln(T). s: noise, above 0. Other values raise 22023.';

CREATE FUNCTION engram.retrieval_latency(a double precision, f double precision DEFAULT 1, lf double precision DEFAULT 1) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'retrieval_latency_wrapper';
COMMENT ON FUNCTION engram.retrieval_latency(double precision, double precision, double precision) IS
'Seconds that retrieving a memory of activation a takes: lf exp(-f a) (Anderson et al. 2004). A failure takes as long as a memory at the threshold.

f: latency exponent, lf: latency factor in seconds, both above 0. Other values raise 22023.';

CREATE FUNCTION engram.activation_01(a double precision, center double precision DEFAULT -5.5, scale double precision DEFAULT 1.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'activation_01_wrapper';
COMMENT ON FUNCTION engram.activation_01(double precision, double precision, double precision) IS
'An activation as a number from 0 to 1, to be shown: 1 / (1 + exp(-(a - center) / scale)). One use an hour ago is 0.72, a month ago 0.22. Rank by the activation itself.

center: finite. scale: above 0. Other values raise 22023.';

-- The same in constant space.

CREATE FUNCTION engram.heat_new(t timestamptz, gain double precision DEFAULT 1) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_new_wrapper';
COMMENT ON FUNCTION engram.heat_new(timestamptz, double precision) IS
'The heat of a memory that was used once, at t: 80 bytes which any number of uses is added to and from which heat_level() reads the activation for any decay. Keep it in a bytea column, STORAGE PLAIN, without an index.

gain: weight of the use, 0 or more; with 0 the heat is empty. An infinite t and other gains raise 22023.

Sixteen sums of exponentially fading uses, time constants from 0.7 s to 23 years (Beylkin & Monzon 2010).';

CREATE FUNCTION engram.heat_touch(heat bytea, t timestamptz, gain double precision DEFAULT 1) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_touch_wrapper';
COMMENT ON FUNCTION engram.heat_touch(bytea, timestamptz, double precision) IS
'The heat with one more use at t, which may be earlier than others: the order of touches does not matter.

gain: weight of the use. 0 counts none; a negative one takes back a use that was counted with that weight at that time. Counters have 24 bits: beside a gain ten million times as large a use is lost when that is taken back. More than there is to take back, as far as the counters tell when uses were, an infinite t or gain, and bytes that are no heat raise 22023.';

CREATE FUNCTION engram.heat_merge(a bytea, b bytea) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_merge_wrapper';
COMMENT ON FUNCTION engram.heat_merge(bytea, bytea) IS
'The heat of the uses of both. Bytes that are no heat raise 22023.';

CREATE FUNCTION engram.heat_level(heat bytea, now timestamptz, d double precision DEFAULT 0.5) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_level_wrapper';
COMMENT ON FUNCTION engram.heat_level(bytea, timestamptz, double precision) IS
'Base-level activation in nats at now: ln of the sum of gain * age^-d over all uses. -Infinity without any. Never read less than a second after the latest use: an earlier now is taken to be then.

d: 0.1 to 0.95; below 0.2 use 0.1, 0.15 or 0.2. For uses of 1 second to 5 years ago it differs from base_level() by less than 0.0013, 0.0025, 0.0057 for d = 0.3, 0.5, 0.8. Another d, an infinite now and bytes that are no heat raise 22023.';

CREATE FUNCTION engram.heat_mass(heat bytea, m integer, now timestamptz) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_mass_wrapper';
COMMENT ON FUNCTION engram.heat_mass(bytea, integer, timestamptz) IS
'One of the counters of a heat at now: the gains of all uses, each faded by exp(-age / T) with T = 4^m / 1.5 seconds. 11 has T = 32.4 days (a half-life of 22.4), the mass of a memory for link_ppmi().

m: 0 to 15. Another m, an infinite now and bytes that are no heat raise 22023.';

CREATE FUNCTION engram.heat_count(heat bytea) RETURNS bigint
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_count_wrapper';
COMMENT ON FUNCTION engram.heat_count(bytea) IS
'How many uses a heat counts, up to 4294967295; those of gain 0 are none. Bytes that are no heat raise 22023.';

CREATE FUNCTION engram_internal.heat_step(state bytea, accessed_at timestamptz, gain double precision) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_step_wrapper';
COMMENT ON FUNCTION engram_internal.heat_step(bytea, timestamptz, double precision) IS
'Adds one use to the state of engram.heat_agg(), a heat in double precision.';

CREATE FUNCTION engram_internal.heat_merge_step(state bytea, heat bytea) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_merge_step_wrapper';
COMMENT ON FUNCTION engram_internal.heat_merge_step(bytea, bytea) IS
'Adds one heat to the state of engram.heat_merge_agg().';

CREATE FUNCTION engram_internal.heat_combine(a bytea, b bytea) RETURNS bytea
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_combine_wrapper';
COMMENT ON FUNCTION engram_internal.heat_combine(bytea, bytea) IS
'Adds two states of the aggregates of heat.';

CREATE FUNCTION engram_internal.heat_final(state bytea) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'heat_final_wrapper';
COMMENT ON FUNCTION engram_internal.heat_final(bytea) IS
'The heat that the state of an aggregate of heat holds.';

CREATE AGGREGATE engram.heat_agg(accessed_at timestamptz, gain double precision) (
  SFUNC = engram_internal.heat_step, STYPE = bytea,
  COMBINEFUNC = engram_internal.heat_combine, FINALFUNC = engram_internal.heat_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE engram.heat_agg(timestamptz, double precision) IS
'The heat of a row per use, in any order: what heat_touch() would have given, rounded once. NULL without rows.

accessed_at: when it was used; NULL counts for nothing. gain: as heat_touch() has it; NULL for 1. Infinite values, and more taken back than there was, raise 22023.';

CREATE AGGREGATE engram.heat_merge_agg(heat bytea) (
  SFUNC = engram_internal.heat_merge_step, STYPE = bytea,
  COMBINEFUNC = engram_internal.heat_combine, FINALFUNC = engram_internal.heat_final, PARALLEL = SAFE);
COMMENT ON AGGREGATE engram.heat_merge_agg(bytea) IS
'The heat of the uses of all, in any order; NULL counts for nothing. NULL without rows. Bytes that are no heat raise 22023.';

-- Consolidation.

CREATE FUNCTION engram.trace_evolve(r1 double precision, r2 double precision, dt_days double precision, alpha double precision,
  mu1 double precision, mu2 double precision, input double precision DEFAULT 0)
RETURNS TABLE (r1 double precision, r2 double precision)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'trace_evolve_wrapper';
COMMENT ON FUNCTION engram.trace_evolve(double precision, double precision, double precision, double precision, double precision, double precision, double precision) IS
'The two traces of a memory dt_days later, one row: r1 fades and feeds r2, r1'' = -mu1 r1, r2'' = alpha r1 - mu2 r2 + input (Murre, Chessa & Meeter 2013). In closed form: two steps are as good as one.

Rates are per day, 0 or more, like all arguments; others raise 22023. Usual: mu1 0.15, mu2 0.005, alpha from consolidation_alpha(). A use adds its gain to r1.';

CREATE FUNCTION engram.trace_strength(r1 double precision, r2 double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'trace_strength_wrapper';
COMMENT ON FUNCTION engram.trace_strength(double precision, double precision) IS
'Probability of recall, 0 to 1, by the two traces: 1 - exp(-(r1 + r2)) (Murre, Chessa & Meeter 2013). Traces are finite and 0 or more, others raise 22023.';

CREATE FUNCTION engram.consolidation_alpha(importance double precision, alpha double precision DEFAULT 0.08) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'consolidation_alpha_wrapper';
COMMENT ON FUNCTION engram.consolidation_alpha(double precision, double precision) IS
'Rate per day at which a memory of this importance (0 to 1) consolidates: alpha * (0.2 + importance^2). Other importances and a negative alpha raise 22023.';

CREATE FUNCTION engram.layer_tick(layer text, r1 double precision, r2 double precision, dt_days double precision,
  alpha double precision, mu1 double precision, mu2 double precision,
  promote double precision DEFAULT 0.25, demote double precision DEFAULT 0.05, archive double precision DEFAULT 0.15) RETURNS text
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'layer_tick_wrapper';
COMMENT ON FUNCTION engram.layer_tick(text, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision, double precision) IS
'The layer (working, core, archive) of a memory dt_days after it was in that layer with traces r1 and r2, none of them used meanwhile. To core when r2 reaches promote, from core to archive when r1 + r2 falls below demote, from working to archive when both are below archive; whatever happens within the interval counts, so it does not matter how often this is asked.

Traces and rates as in trace_evolve(). promote >= demote > 0 and promote >= archive > 0. Other values and unknown layers raise 22023.';

-- Forgetting.

CREATE FUNCTION engram.fsrs_retrievability(elapsed_days double precision, stability double precision,
  decay double precision DEFAULT 0.1542) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'fsrs_retrievability_wrapper';
COMMENT ON FUNCTION engram.fsrs_retrievability(double precision, double precision, double precision) IS
'Probability of recall, 0 to 1, elapsed_days after the last review: (1 + F t/S)^-decay with F = 0.9^(-1/decay) - 1, which is 0.9 after stability days (FSRS-6; Ye, Su & Cao 2022).

elapsed_days: 0 or more. stability: above 0. decay: 0.01 to 10. Other values raise 22023.';

CREATE FUNCTION engram.fsrs_step(stability double precision, difficulty double precision, elapsed_days double precision,
  rating integer, w double precision[] DEFAULT NULL)
RETURNS TABLE (stability double precision, difficulty double precision, r double precision)
LANGUAGE c IMMUTABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'fsrs_step_wrapper';
COMMENT ON FUNCTION engram.fsrs_step(double precision, double precision, double precision, integer, double precision[]) IS
'Stability (days) and difficulty (1 to 10) after a review, and the retrievability r just before it; one row. By FSRS-6, with fractions of days; within a day its short-term formula.

stability: NULL before the first review, which ignores difficulty and elapsed_days and has no r. elapsed_days: since the last review. rating: 1 again (rejected), 2 hard (hardly relevant), 3 good (used), 4 easy (confirmed). w: the 21 parameters, by default those of FSRS-6. Values out of range raise 22023.';

CREATE FUNCTION engram.fsrs_interval(stability double precision, retention double precision DEFAULT 0.9) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'fsrs_interval_wrapper';
COMMENT ON FUNCTION engram.fsrs_interval(double precision, double precision) IS
'Days after a review until the retrievability has fallen to retention: when a memory is worth confirming again (FSRS-6). stability: days, above 0. retention: above 0, up to 1. Other values raise 22023.';

CREATE FUNCTION engram.exp_retrievability(t_days double precision, s_days double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'exp_retrievability_wrapper';
COMMENT ON FUNCTION engram.exp_retrievability(double precision, double precision) IS
'exp(-t_days / s_days), the exponential forgetting curve (Wozniak, Gorzelanczyk & Murakowski 1995); for comparison with other systems. t_days: 0 or more; s_days: above 0. Other values raise 22023.';

CREATE FUNCTION engram.stability_upstream(type text, n bigint, importance double precision, consolidation_count integer) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stability_upstream_wrapper';
COMMENT ON FUNCTION engram.stability_upstream(text, bigint, double precision, integer) IS
'Stability in days as engramai computes it from memory type, number n of uses, importance (0 to 1) and number of consolidations, for comparison. It grows with how often a job ran; nothing in engram depends on it. Unknown types and negative numbers raise 22023.';

-- Links and spreading.

CREATE FUNCTION engram.link_decay(x double precision, dt_s double precision, half_life_s double precision DEFAULT 2592000) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_decay_wrapper';
COMMENT ON FUNCTION engram.link_decay(double precision, double precision, double precision) IS
'The mass x of a link dt_s seconds later: x 2^(-dt_s / half_life_s). Also what an event of gain x that comes to light dt_s late adds, so the order of events does not matter. x and dt_s: 0 or more; half_life_s: above 0. Other values raise 22023.';

CREATE FUNCTION engram.link_strength(x double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_strength_wrapper';
COMMENT ON FUNCTION engram.link_strength(double precision) IS
'Strength, 0 to 1, of a link of mass x: 1 - exp(-x), the soft-bounded rule of Hebb. x: 0 or more; other values raise 22023.';

CREATE FUNCTION engram.link_direction(xf double precision, xb double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_direction_wrapper';
COMMENT ON FUNCTION engram.link_direction(double precision, double precision) IS
'Direction of a link, -1 to 1, from its masses forward and backward: (xf - xb) / (xf + xb + 1). Masses are 0 or more, others raise 22023.';

CREATE FUNCTION engram.link_ppmi(xij double precision, xi double precision, xj double precision, total double precision,
  kappa double precision DEFAULT 1) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'link_ppmi_wrapper';
COMMENT ON FUNCTION engram.link_ppmi(double precision, double precision, double precision, double precision, double precision) IS
'Association of two memories in nats, 0 or more: max(0, ln((xij + kappa) / (xi xj / total + kappa))), positive mutual information (Levy & Goldberg 2014), shrunk by kappa where there is little evidence.

xij: mass of the link; xi, xj: of its ends, by heat_mass(heat, 11, now); total: of all recalls. Masses are 0 or more, total and kappa above 0; other values raise 22023.';

CREATE FUNCTION engram.spread_fan(s double precision, fan double precision) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'spread_fan_wrapper';
COMMENT ON FUNCTION engram.spread_fan(double precision, double precision) IS
'Activation in nats that a source with fan associations, itself counted, spreads to each: s - ln(fan), at least 0 (Anderson 1974). s: usually 1.5 to 2. fan: 1 or more. Other values raise 22023.';

-- All of it together.

CREATE FUNCTION engram.need_score(base_level double precision, text_llr double precision, cos_centered double precision,
  lift double precision, importance double precision, contradicted boolean, betas double precision[] DEFAULT NULL) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'need_score_wrapper';
COMMENT ON FUNCTION engram.need_score(double precision, double precision, double precision, double precision, double precision, boolean, double precision[]) IS
'Log-odds in nats, up to a constant, that a memory is needed: a weighted sum of its base level and of what the cues say for it (Anderson & Milson 1989).

base_level: nats, -Infinity when it was never used. text_llr: score of its words, such as BM25. cos_centered: cosine minus the mean of the candidates. lift: by spreading, nats. importance: 0 to 1. The terms of text_llr, cos_centered and lift are clipped to 6 nats either way. betas: weights of these five and what a contradiction costs, by default {0.5,0.6,15,1,2,3}. A memory that a cue did not find has the least value that any candidate has, not 0; NULL gives NULL. Other values raise 22023.';

CREATE FUNCTION engram.need_probability(score double precision, b0 double precision DEFAULT 0) RETURNS double precision
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'need_probability_wrapper';
COMMENT ON FUNCTION engram.need_probability(double precision, double precision) IS
'Probability, 0 to 1, by a need_score(): 1 / (1 + exp(-(score + b0))). It is one only when b0 was fitted to what was used (Platt 1999). A score of NaN or Infinity and a b0 that is not finite raise 22023.';
