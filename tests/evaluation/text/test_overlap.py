import pytest

pytest.importorskip("sacrebleu")
pytest.importorskip("rouge_score")

from storylm.evaluation.text.overlap import corpus_bleu, overlap, rouge, sentence_bleu

TRUE = ["The dog ran home and was happy again.", "Lily gave the ball to her little brother.", "They all ate the cake."]


def test_the_true_ending_has_all_in_common_and_another_little():
    found = {measure.name: measure for measure in overlap(TRUE, TRUE)}
    assert list(found) == ["bleu", "rouge_1", "rouge_2", "rouge_l"]
    assert found["bleu"].value == pytest.approx(100)
    assert all(found[name].value == 1 for name in ("rouge_1", "rouge_2", "rouge_l"))
    assert found["rouge_l"].interval == (1, 1)
    turned = overlap([*TRUE[1:], TRUE[0]], TRUE)
    for whole, other in zip(found.values(), turned, strict=True):
        assert other.value == whole.reference < 0.5 * whole.value  # the reference is another story's ending


def test_rouge_by_hand():
    # 2 of 4 words in common in order: recall 2/4, precision 2/2
    one, two, longest = rouge(["red ball"], ["a red small ball"])[0]
    assert (one, two, longest) == pytest.approx((2 / 3, 0, 2 / 3))
    assert rouge(["ball red"], ["a red small ball"])[0][2] == pytest.approx(1 / 3)


def test_bleu_is_of_all_texts_together():
    assert corpus_bleu(["The dog ran home and sat.", "x"], ["The dog ran home and sat.", "y"]) > 50
    assert sentence_bleu("The dog ran home.", ["A cat sat.", "The dog ran home."]) == pytest.approx(100)
