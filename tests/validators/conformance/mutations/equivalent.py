"""Defects that were tried and taken out of the table: they change nothing that anybody could see."""

EQUIVALENT: dict[str, str] = {
    "layers stay enabled under disable_adapter": (
        "PeftModel registers no hooks with offsets while it counts as disabled, and without offsets nothing "
        "is added: the layer's own switch is a second lock on the same door"
    ),
    "prefill_chunk_size in generate() behind the base's cache": (
        "every token of the call is adapted, so that an offset counted from a chunk's end adapts all of it, "
        "as it should; without a cache it is wrong and in the table (chunk-offsets)"
    ),
    "scale applied twice, or left out, with alpha equal to the rank": (
        "the scale is 1; the mutants of the scale are seeded into a release with alpha twice the rank"
    ),
    "first id matched instead of the whole invocation, on a prompt that ends in it": (
        "the invocation's first id opens every turn, and its last occurrence is the invocation's; rows "
        "without the invocation show it (first-token-matches)"
    ),
    "a decode step not adapted, where greedy tokens are ties": (
        "the tokens are the same; the mutants of decoding are seeded into a strong adapter"
    ),
    "two rows of a batch swapped that hold the same prefix": (
        "chunkings of one prefix differ by rounding only; ZK005 gives each row its own"
    ),
    "rotated by a base without rotary embeddings": "there is nothing to rotate; all mutants run on a Llama",
}
