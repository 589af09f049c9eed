"""Which test files come first: where several processes share the work, the long ones must not be begun last."""

# Minutes each: clusters, emulated devices, whole runs.
LONG = ("test_cluster", "test_parity", "test_train_resume", "test_distributed", "test_feed", "test_same_curve")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
