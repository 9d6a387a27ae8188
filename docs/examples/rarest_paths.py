"""An example path sampler: of four uniform paths, train the one whose operations the others share least.

A sampler is a function of a space and a generator. It must remember nothing between steps: then a training that is
killed goes on as it was.
"""

from collections import Counter


def rarest_of_four(space, rng):
    drawn = [space.sample(rng) for _ in range(4)]
    seen = Counter(item for path in drawn for item in space.decisions(path).items())
    rarest = min(drawn, key=lambda path: sum(seen[item] for item in space.decisions(path).items()))
    return [(rarest, 1.0)]  # the step's paths, and the weight of each path's loss
