"""How well does a reward model agree with the truth, on music whose truth is known?

Every prompt, candidate and damage comes from `synth` and is new: captions of the MusicCaps evaluation split, templates,
lyric lines, seeds and damages that training never uses.

takes   candidates of captions with rewards and truth; how well the two agree, what rules choose, where rewards lie
cases   two of a kind of which one is the right one
sure    how likely the one with the higher reward is the better one
report  all of that together, and what of it is stored with the weights
plot    the reliability diagram

**Metrics** (of `rerank.eval.metrics`)
- pair accuracy: of two candidates whose truths differ by at least 0.2, how often the better one has the higher reward
- best-of-n gain: (truth of the chosen - mean) / (truth of the best - mean), averaged over prompts: 0 is a random choice,
  1 always finds the best; "of sums" divides the sums over all prompts instead
- preference: how often the right one of two has the higher reward. For lyrics, reference and text these are two prompts
  with one audio, which meets the right one fully (made without departures and faults): the lyrics it sings against
  others; the reference it follows against one that is at least 0.1 of true alignment worse; its caption against one
  whose mood and instruments it has not, nor the tempo if one is named. For damage it is one prompt with an audio, half
  of them with departures and faults, against the same audio damaged with a severity of 0.5 to 1.
- calibration error and Brier score of the probability that the one with the higher combined reward is the better one,
  see `sure`
"""
