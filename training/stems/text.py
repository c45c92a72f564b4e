"""The text stem: hashed ids of up to 32 words -> a feature vector for each word, in its context."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from edgeemo.features.text import TextSpec


class TextAnswer(NamedTuple):
    """What the head that the stem is trained under says.

    Attributes:
        main: (B, classes) log probabilities where the corpus is not known.
        fine: (B, fine) logits, each for itself.
        views: (B, corpora, classes) log probabilities of what each corpus would call the text.
        source: (B, corpora) log probabilities of the corpus.
    """

    main: torch.Tensor
    fine: torch.Tensor
    views: torch.Tensor
    source: torch.Tensor


class TextStem(nn.Module):
    """Looks up and adds the rows of each word's ids, then mixes neighbouring words.

    A word's vector is the row of the word, plus that of its pair, plus the mean of its n-grams' rows.
    Two residual blocks see 3 and 5 words at once; each is written as one wide product over shifted
    copies, which small CPUs and int8 run faster than a convolution with its transposes. Words that do
    not exist (all ids 0) are zero at the input of every block and at the output, so they have no influence.

    Args:
        spec: the front-end whose ids the stem reads.
        width: D, features of a word.
        hidden: inner width of the blocks.
        kernels: words that each block sees.
        dropout: of features inside the blocks, in training only.
        row_dropout: probability that a whole id is ignored, in training only.
    """

    def __init__(
        self,
        spec: TextSpec,
        *,
        width: int = 64,
        hidden: int = 128,
        kernels: tuple[int, ...] = (3, 5),
        dropout: float = 0.2,
        row_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.width = width
        self.row_dropout = row_dropout
        self.table = nn.Embedding(spec.rows, width, padding_idx=0)
        nn.init.normal_(self.table.weight, std=0.1)
        with torch.no_grad():
            self.table.weight[0].zero_()
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(ContextBlock(width, hidden, kernel, dropout) for kernel in kernels)
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Returns features (B, T, D) of ids (B, T, K); zero where a word does not exist."""
        known = (ids != 0).to(self.table.weight.dtype)  # (B, T, K)
        mask = known[:, :, :1]  # (B, T, 1)
        if self.training and self.row_dropout > 0:
            known = known * (torch.rand_like(known) >= self.row_dropout)
        whole = 2 if self.spec.pair_buckets else 1
        grams = known[:, :, whole:]
        grams = grams / grams.sum(dim=2, keepdim=True).clamp(min=1.0)
        share = torch.cat((known[:, :, :whole], grams), dim=2)
        words = (self.table(ids) * share.unsqueeze(3)).sum(dim=2)  # (B, T, D)
        words = self.dropout(words)
        for block in self.blocks:
            words = block(words, mask)
        return self.norm(words) * mask


class ContextBlock(nn.Module):
    """Adds to each word what a small network makes of it and its neighbours.

    Args:
        width: features of a word.
        hidden: inner width.
        kernel: words seen at once, odd.
        dropout: of the inner features, in training only.
    """

    def __init__(self, width: int, hidden: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.kernel = kernel
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(kernel * width, hidden)
        self.narrow = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Returns (B, T, D) from words (B, T, D) and mask (B, T, 1)."""
        length = words.shape[1]
        side = self.kernel // 2
        known = nn.functional.pad(self.norm(words) * mask, (0, 0, side, side))  # (B, T + 2 side, D)
        near = torch.cat([known[:, at : at + length] for at in range(self.kernel)], dim=2)
        return words + self.narrow(self.dropout(torch.relu(self.widen(near))))


class TextHead(nn.Module):
    """Classifies a text from its word features; used to train the stem, then thrown away.

    Annotators of different corpora call the same text by different names. So the head says for each
    corpus what it would call the text, and which corpus the text seems to be from; the answer that a
    device can give, where nobody knows the corpus, is the mixture of the two.

    Args:
        width: features of a word.
        classes: labels of the main output.
        fine: labels of the second output.
        corpora: sources of texts, each with its own idea of the labels.
        dropout: of the pooled features, in training only.
    """

    def __init__(self, width: int, classes: int, fine: int, corpora: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.classes = classes
        self.score = nn.Linear(width, 1)
        self.dropout = nn.Dropout(dropout)
        self.fine = nn.Linear(width, fine)
        self.views = nn.Linear(width, corpora * classes)
        self.source = nn.Linear(width, corpora)

    def forward(self, words: torch.Tensor, mask: torch.Tensor) -> TextAnswer:
        """Returns logits and logarithms of probabilities; see `TextAnswer`.

        Args:
            words: features (B, T, D).
            mask: (B, T), 1 where a word exists; at least one in each row.
        """
        score = self.score(words).squeeze(2).masked_fill(mask == 0, -1e4)  # (B, T)
        share = torch.softmax(score, dim=1).unsqueeze(1)
        pooled = self.dropout(torch.bmm(share, words).squeeze(1))  # (B, D)
        views = torch.log_softmax(self.views(pooled).unflatten(1, (-1, self.classes)), dim=2)
        source = torch.log_softmax(self.source(pooled), dim=1)  # (B, corpora)
        main = torch.logsumexp(views + source.unsqueeze(2), dim=1)
        return TextAnswer(main, self.fine(pooled), views, source)
