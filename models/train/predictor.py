"""A trained output, the bytes it becomes, and predictions from exactly what is in those bytes."""

import math
import struct

import numpy as np

FORMAT = "vitaltrace/model/1"


F32_MAX = 3.4028234663852886e38


def f32(value):
    """The nearest number of 4 bytes; a split of what is absent from all numbers has a threshold beyond them."""
    return struct.unpack("<f", struct.pack("<f", min(max(value, -F32_MAX), F32_MAX)))[0]


class Tree:
    """Splits as parallel lists. A child below 0 is leaf `-1 - child`."""

    def __init__(self, structure):
        self.feature, self.threshold, self.left, self.right, self.absent_left, self.leaf = [], [], [], [], [], []
        if "split_index" in structure:
            self._split(structure)
        else:
            self.leaf.append(f32(structure["leaf_value"]))

    def _split(self, node):
        place = len(self.feature)
        threshold = f32(node["threshold"])
        absent = node["default_left"] if node["missing_type"] == "NaN" else 0.0 <= threshold
        self.feature.append(node["split_feature"])
        self.threshold.append(threshold)
        self.absent_left.append(int(absent))
        self.left.append(0)
        self.right.append(0)
        for side, name in ((self.left, "left_child"), (self.right, "right_child")):
            child = node[name]
            if "split_index" in child:
                side[place] = self._split(child)
            else:
                self.leaf.append(f32(child["leaf_value"]))
                side[place] = -len(self.leaf)
        return place

    def value(self, row):
        if not self.feature:
            return self.leaf[0]
        at = 0
        while at >= 0:
            x = row[self.feature[at]]
            left = self.absent_left[at] if math.isnan(x) else x <= self.threshold[at]
            at = self.left[at] if left else self.right[at]
        return self.leaf[-1 - at]

    def values(self, x):
        """The same for all rows at once."""
        if not self.feature:
            return np.full(len(x), self.leaf[0])
        at = np.zeros(len(x), int)
        feature, threshold = np.array(self.feature), np.array(self.threshold)
        left, right, absent = np.array(self.left), np.array(self.right), np.array(self.absent_left, bool)
        going = np.arange(len(x))
        while len(going):
            here = at[going]
            value = x[going, feature[here]]
            goes_left = np.where(np.isnan(value), absent[here], value <= threshold[here])
            at[going] = np.where(goes_left, left[here], right[here])
            going = going[at[going] >= 0]
        return np.array(self.leaf)[-1 - at]

    def cbor(self):
        lists = ((self.feature, "H"), (self.threshold, "f"), (self.left, "h"), (self.right, "h"), (self.absent_left, "B"), (self.leaf, "f"))
        return array([packed(values, kind) for values, kind in lists])


class Linear:
    """Weights of how far a feature is above or below its middle, in its own spread and at most `CLIP`, and of its absence."""

    CLIP = 3.0

    def __init__(self, intercept=0.0, middle=(), spread=(), above=(), below=(), absent=()):
        self.intercept = float(intercept)
        self.lists = [[float(value) for value in one] for one in (middle, spread, above, below, absent)]

    def value(self, row):
        total = self.intercept
        for x, middle, spread, above, below, absent in zip(row, *self.lists):
            if math.isnan(x):
                total += absent
            else:
                z = min(max((x - middle) / spread, -self.CLIP), self.CLIP)
                total += above * z if z > 0.0 else below * -z
        return total

    def cbor(self):
        return array([packed([self.intercept], "d"), *[packed(one, "d") for one in self.lists]])


class Output:
    """One number that a model gives: share of the trees and of the linear part in its score, and an interval by bands."""

    def __init__(self, name, hours, names):
        self.name, self.hours, self.names = name, hours, names
        self.trees, self.share, self.linear = [], 1.0, Linear()
        self.edges, self.low, self.high = [], [0.0, 0.0], [0.0, 0.0]

    @classmethod
    def of(cls, name, hours, names, booster):
        output = cls(name, hours, names)
        output.trees = [Tree(one["tree_structure"]) for one in booster.dump_model()["tree_info"]]
        return output

    def score(self, row):
        """Trees in their order, then the linear part; the same operations as in the other program."""
        total = 0.0
        for tree in self.trees:
            total += tree.value(row)
        return self.share * total + (1.0 - self.share) * self.linear.value(row)

    def scores(self, x):
        total = np.zeros(len(x))
        for tree in self.trees:
            total += tree.values(x)
        if self.share == 1.0:
            return total
        return self.share * total + (1.0 - self.share) * np.array([self.linear.value(row) for row in x.tolist()])

    def interval(self, value):
        band = len(self.edges) + 1 if math.isnan(value) else sum(1 for edge in self.edges if edge < value)
        return self.low[band], self.high[band]

    def intervals(self, values):
        band = np.where(np.isnan(values), len(self.edges) + 1, np.searchsorted(self.edges, values, side="left"))
        return np.array(self.low)[band], np.array(self.high)[band]

    def cbor(self):
        names = array([text(name) for name in self.names])
        trees = array([tree.cbor() for tree in self.trees])
        interval = array([packed(one, "d") for one in (self.edges, self.low, self.high)])
        return array([text(self.name), head(0, self.hours), names, packed([self.share], "d"), trees, self.linear.cbor(), interval])


def head(major, value):
    """The beginning of a CBOR item in its shortest form."""
    for extra, limit, kind in ((24, 1 << 8, ">B"), (25, 1 << 16, ">H"), (26, 1 << 32, ">I")):
        if value < 24:
            return bytes([major << 5 | value])
        if value < limit:
            return bytes([major << 5 | extra]) + struct.pack(kind, value)
    raise ValueError(value)


def text(value):
    return head(3, len(value.encode())) + value.encode()


def array(items):
    return head(4, len(items)) + b"".join(items)


def packed(values, kind):
    """Numbers as one byte string, each little-endian."""
    body = struct.pack(f"<{len(values)}{kind}", *values)
    return head(2, len(body)) + body


def model(name, outputs):
    return array([text(FORMAT), text(name), array([output.cbor() for output in outputs])])
