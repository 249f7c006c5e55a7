"""The part of the data dictionary about analyses: what is counted, and the formulas with their sources.

``dictionary`` prints it. Limits are read from the modules that keep to them.
"""

from __future__ import annotations

from civitai_pipeline.derive.analyses import lift, membership, resources, settings, splitting, terms, trends


def _listed(most: dict[str, int]) -> str:
    *others, last = [f"{number:,} of kind `{kind}`" for kind, number in most.items()]
    return f"{', '.join(others)} and {last}"


ANALYSES = f"""\
## How the analyses count

`capture_rates`, `prompt_structure`, `length_statistics`, `length_bins`, `tag_frequencies`, `tag_pairs`,
`setting_values`, `setting_recipes`, `resource_usage`, `resource_pairs`, `term_lift` and `weekly_trends` are made from
`prompts`, `prompt_resources` and `prompt_categories` by one step, anew at each run. Each figure has the number behind
it in its row.

- **Images** are those whose prompt stands. Withdrawn prompts are in no count but the `total` of the fact `standing`.
- **Exact repeats** count as images. `prompts` counts each normalised prompt once, so both can be had; where negative
  prompts are counted, it counts texts that are the same to the letter.
- **Authors** are user names. Images without one, or of "unknown", as the API calls accounts that are gone, are
  counted as images and as nobody's.
- **A share** is of the images of which the thing is known. `images_total` is all of them, the N beside the n.
- Medians and quartiles lie between neighbouring values in proportion (type 7 of Hyndman and Fan, "Sample quantiles in
  statistical packages", The American Statistician 50, 1996).
- Means are taken from whole millionths, so that equal prompts give equal tables whatever the order of the rows. The
  exponentials of `term_lift` alone can differ from one kind of processor to another, in the last of some 16 digits.

### Facts of `capture_rates`

| fact | known where |
| --- | --- |
| `standing` | the prompt has not been withdrawn; the one fact whose total holds withdrawn prompts too |
| `prompt` | always, among the standing; `different` is the number of distinct prompts |
| `author` | the image has a named author |
| `created_at` | the image has a time; `different` counts weeks |
| `engagement` | the image has an engagement |
| `negative_prompt` | there is one that is not blank |
| `sampler`, `scheduler`, `steps`, `cfg_scale`, `size`, `seed`, `clip_skip`, `checkpoint_name`, `base_model` | the \
column of `prompts` is filled; size is width and height |
| `generator` | it is not `unknown` |
| `tag` | the prompt has a tag, as read below |
| `resource`, `checkpoint`, `lora` | the image names a resource at all, or one of the type |
| `lora_weight` | of all uses of LoRAs: the weight is told |
| `category` | a category has been found, other than `uncategorized` |

### Measures of `prompt_structure`

Read from the text to the letter. A distinct prompt has a mark if one of its images has it.

| measure | what the text holds |
| --- | --- |
| `comma` | a comma, one of those of Chinese and Japanese among them |
| `weight` | a number before a closing round bracket, as in `(word:1.2)`. Neither `<lora:name:0.8>` nor a ratio \
such as `(16:9)`, whole numbers on both sides of the colon, is one |
| `round_brackets`, `square_brackets`, `curly_brackets` | such an opening bracket without a backslash before it |
| `double_round_brackets` | two opening round brackets in a row |
| `escaped_brackets` | a bracket behind a backslash, which is text |
| `prompt_editing` | `[from:to:when]` or the like: a colon within square brackets |
| `alternation` | a vertical bar within square or curly brackets |
| `lora_tag`, `other_angle_tag` | `<lora:…>`, or `<kind:…>` of another kind |
| `embedding` | `embedding:name`, as ComfyUI writes it; embeddings called by name alone are in `prompt_resources` |
| `wildcard` | `__name__` |
| `underscore` | letters joined by an underscore, outside `<…>` |
| `sentence` | a letter, then a full stop, question mark or exclamation mark, then white space or the end; or one \
of the wide marks of Chinese and Japanese |
| `long_part` | more than {splitting.MAX_TAG_LENGTH} characters without a comma or a line's end |
| `break`, `and` | the words BREAK and AND in capitals |
| `line_break` | the end of a line |
| `cjk` | a Chinese character, a kana or a hangul |

### Lengths

`characters`, `words` and `tags` are `prompt_length`, `word_count` and `tag_count` of `prompts`, and the same counts
of negative prompts. `counted` tells whether every image counts (`images`) or equal prompts once, by their first image
(`texts`). `sd` is the standard deviation of a sample, with n - 1. The bins of `length_bins` are the same for every
version.

### Tags

A tag is a part of a prompt between two separators, in the normal form behind `prompt_hash`. Separators are commas,
line ends, the word BREAK and `<kind:…>` tags. A part of more than {splitting.MAX_TAG_LENGTH} characters is a sentence
and no tag, but has its place in `mean_position`. A tag counts once an image, with its first place. Equal normalised
prompts have the tags of the first of them.

`tag_frequencies` lists the {terms.MOST_TAGS:,} most used tags of each side that stand in {terms.LEAST_IMAGES} images
or more; `different` of the fact `tag` says how many there are. `tag_pairs` has the pairs of the {terms.PAIRED_TAGS}
most used tags of prompts that at least {terms.PAIR_LEAST_AUTHORS} named authors use in at least
{terms.PAIR_LEAST_PROMPTS} distinct prompts. With `n` prompts that have a tag, lift is

    lift = n * prompts / (prompts_tag * prompts_other)

the observed share against the product of the two shares, called interest by Brin, Motwani, Ullman and Tsur ("Dynamic
itemset counting and implication rules for market basket data", SIGMOD 1997). It is reckoned on distinct prompts, so
that a series of images of one prompt makes no pair.

### Settings

`setting_values` has the {settings.MOST_VALUES} most used values of each setting, and one row with a null `value` for
the rest taken together, so that the `images` of a setting add up to `known`. `orientation` is portrait, square or
landscape, by width and height. `setting_recipes` has at most {settings.MOST_RECIPES} combinations of
{settings.RECIPE_LEAST_IMAGES} images or more; steps are taken {settings.STEPS_PER_BIN} at a time (16 to 20), CFG
scales {settings.CFG_PER_BIN} at a time.

### Resources

A resource's key is its version id; where an image tells none, the id that its file hash or its name leads to
elsewhere in the version, if that is a single one; else its name, in lower case without folders and the extension of a
model file; else the first ten digits of its hash. LyCORIS and DoRA files count as LoRAs. If an image names a resource
twice, the first weight told is taken. An image of several checkpoints belongs to the version collected if that is
among them, else to the one named first.

`resource_usage` has the {resources.MOST_RESOURCES:,} most used resources over all images (`all`) and for each of the
{resources.MOST_CHECKPOINTS} most used checkpoints those in {resources.WITH_CHECKPOINT_LEAST_IMAGES} images or more.
An unknown weight is left out of the quartiles and never taken for 1; `weight_unknown_share` says how many there are.
`weight_author_median` is the median of the authors' own medians, so that one author's habit is one voice. What people
choose is no proof of what works best.

`resource_pairs` has pairs of the {resources.PAIRED_LORAS} most used LoRAs, and of one of the
{resources.PAIRED_CHECKPOINTS} most used checkpoints and a LoRA, that at least {resources.PAIR_LEAST_AUTHORS} named
authors use in at least {resources.PAIR_LEAST_IMAGES} images. Lift is as for tags, but over images: those that name a
LoRA, and for the second sort of pair a checkpoint too. Where none is named, it is not known that none was used.

### `term_lift`

Engagement with a term against engagement without it, for the most used terms: {_listed(membership.MOST_TERMS)}. Only
images are compared that have an engagement and a named author, and tell the kind: tags among prompts with a tag,
LoRAs and checkpoints among images that name any resource, samplers where it is known. `quality_score` has no part in
it: it counts words, so it would find the words that it counts.

An author's images are alike, so authors are what is counted. With `e` the engagement of an image, each author has the
mean of `ln e` over the images with the term and the mean over those without. `ratio` is `exp` of the difference of

- `between_authors`: the mean over the authors who used the term, less the mean over all authors with images without
  it. The interval is Welch's for unequal variances ("The generalization of 'Student's' problem when several different
  population variances are involved", Biometrika 34, 1947), its degrees of freedom those of Satterthwaite. An author
  on both sides makes them alike, which the formula does not know, so the interval is too wide rather than too narrow.
- `within_authors`: the mean over the authors with images on both sides of with less without, with Student's interval
  for paired differences ("The probable error of a mean", Biometrika 6, 1908). That some authors are more popular than
  others has no part in it; compare the two.

There are rows where at least {lift.LEAST_AUTHORS} authors stand on each side. `q_value` is the p-value corrected for
all comparisons of the kind (Benjamini and Hochberg, "Controlling the false discovery rate", Journal of the Royal
Statistical Society B 57, 1995): of the rows with a `q_value` of at most 0.05, some 5 % are to be expected to be
chance. Intervals are each for itself. A difference is no proof that the term made it: subjects, dates and audiences
differ along with it.

### `weekly_trends`

Weeks are those of ISO 8601, by `created_at` in UTC; images without a time are left out. Followed are the most used
terms: {_listed(trends.MOST_TERMS)}. `images_total` are the week's images that tell the kind, as for `term_lift`. A
term's rows begin with the first week in which it occurs.

`share` counts images. `author_share` is the mean, over the week's named authors, of the share of the author's images
that have the term: an author of a hundred images weighs as much as one of a single image. `change` is `author_share`
less its mean over the {trends.WEEKS_BEFORE} weeks before; null unless each of the weeks has at least
{trends.LEAST_AUTHORS} named authors, the present one too. The first and the last week may be cut by where collection
began and stopped.
"""
