# requires: pandas, sklearn
# seconds: 300
# A fitted model goes to four jobs that each train it on, a frame to one that cleans it: nobody sees what
# others do to theirs, as with processes.
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pandas as pd
from sklearn.linear_model import SGDClassifier

import multipy_actors as multipy

X = np.random.RandomState(0).rand(200, 5)
y = (X[:, 0] > 0.5).astype(int)


def train_on(model, seed):
    order = np.random.RandomState(seed).permutation(200)
    fitted = model.partial_fit(X[order], y[order] if seed % 2 else 1 - y[order])
    return round(float(fitted.coef_.sum()), 6)


def clean(frame):
    frame.loc[frame["a"] < 0, "a"] = 0
    return int(frame["a"].sum())


def jobs(executor):
    model = SGDClassifier(random_state=0).fit(X, y)
    before = model.coef_.copy()
    trained = list(executor.map(train_on, [model] * 4, range(4)))
    frame = pd.DataFrame({"a": [-1, 2]})
    cleaned = executor.submit(clean, frame).result()
    return trained, cleaned, np.array_equal(before, model.coef_), frame["a"].tolist()


if __name__ == "__main__":
    with ProcessPoolExecutor(2) as processes, multipy.Pool(2) as pool:
        expected, found = jobs(processes), jobs(pool)
    print(expected, found, sep="\n")
    sys.exit(expected != found)
