"""The pytest plugin, with real pytest on tests as people write them."""

from __future__ import annotations

import re

import pytest

from gradscope.testing.plugin import fail_on

pytest_plugins = ["pytester"]

MODELS = """
    import pytest, torch
    from torch import nn

    torch.manual_seed(0)
    X, Y = torch.randn(64, 20), torch.arange(64) % 10
    LOSS = nn.CrossEntropyLoss()

    def healthy():
        return nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 10))

    def sick():
        return nn.Sequential(healthy(), nn.Softmax(1))

    def train(scope, model, optimizer, steps=5):
        for _ in range(steps):
            loss = scope.loss(LOSS(model(X), Y))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return float(loss.detach())
"""


WITHOUT_DASH = ("-p", "no:dash")  # its own plugin warns as it is loaded


def run(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    """The project's tests in a process of their own, with every plugin that is installed."""
    return project.runpytest_subprocess("-p", "no:cacheprovider", *WITHOUT_DASH, *options)


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project with models, whose own pytest is strict."""
    pytester.makepyfile(models=MODELS)
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


def test_a_failed_assertion_is_shown_as_a_diagnosis(project: pytest.Pytester) -> None:
    """The user sees the line of the test, then verdict, findings and what to do, and nothing of GradScope's insides."""
    project.makepyfile(
        """
        from models import *

        def test_trains(gradscope):
            gradscope.assert_healthy(sick(), (X, Y), LOSS)

        def test_is_ready(gradscope):
            gradscope.check_model(sick(), (X, Y), criterion=LOSS, steps=5, skip=["overfit-one-batch"]).raise_if_failed()

        def test_healthy(gradscope):
            assert gradscope.assert_healthy(healthy(), (X, Y), LOSS, 5).verdict == "healthy"

        @pytest.mark.parametrize("own", [{}, {"fail_on": "error"}])
        def test_forgotten(gradscope, own):  # a warning, which the ini file says is to fail
            model = healthy()
            some = torch.optim.SGD(model[0].parameters(), lr=0.1)
            gradscope.assert_healthy(model, (X, Y), LOSS, 5, optimizer=some, **own)
        """
    )
    project.makeini("[pytest]\nfilterwarnings = error\ngradscope_fail_on = warning\n")
    result = run(project)
    result.assert_outcomes(passed=2, failed=3)
    result.stdout.fnmatch_lines(
        [
            "*def test_trains(gradscope):*",
            ">*gradscope.assert_healthy(sick(), (X, Y), LOSS)",
            "E*UnhealthyTraining: Sequential: Unhealthy: Softmax is taken twice*",
            "E*F1 Softmax is taken twice*(error, output-loss-mismatch)",
            "E*where: *",
            "E*why: *",
            "E*torch.nn.Identity()",
            "E*more:  gradscope explain output-loss-mismatch",
            "E*The run: gradscope dashboard *0-Sequential",
            ">*raise_if_failed()",
            "E*UnhealthyModel: Sequential: 1 question of 8 failed, 1 could not be asked: loss-fits-output.",
            "E*UnhealthyTraining: *2 parameters are in no optimizer: 2.weight, 2.bias*",
        ]
    )
    shown = result.stdout.str()
    assert "testing/healthy.py" not in shown
    assert "testing/answers.py" not in shown
    assert "recording to" not in shown + result.stderr.str()


def test_the_diagnosis_of_what_was_watched_is_part_of_a_failed_tests_report(project: pytest.Pytester) -> None:
    """Whatever made the test fail; a test that passes has no such section, nor one that watched nothing."""
    project.makepyfile(
        """
        from models import *

        @pytest.mark.parametrize("make", [sick, healthy])
        def test_learns(gradscope, make):
            model = make()
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            scope = gradscope.watch(model, optimizer)
            assert scope.run_dir.parent == gradscope.folder
            assert train(scope, model, optimizer) < 0.1

        def test_goes_well(gradscope):
            model = healthy()
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            train(gradscope.watch(model, optimizer, every="auto"), model, optimizer)

        def test_watches_nothing(gradscope):
            assert not gradscope

        def test_no_hook_is_left():
            from torch.nn.modules.module import _has_any_global_hook
            assert not _has_any_global_hook()
        """
    )
    result = run(project, "-n", "2")
    result.assert_outcomes(passed=2, failed=3)
    shown = result.stdout.str()
    sections = re.findall(r"-+ GradScope -+\n(\w+): (.{20})", shown)
    assert sorted(sections) == [("Healthy", "No sickness found in"), ("Unhealthy", "Softmax is taken twi")]
    assert shown.count("The run: gradscope dashboard ") == 2


@pytest.mark.parametrize(
    ("ini", "option", "expected"),
    [
        ("", [], "error"),
        ("gradscope_fail_on = warning", [], "warning"),
        ("gradscope_fail_on = warning", ["--gradscope-fail-on=note"], "note"),
    ],
)
def test_the_option_counts_for_more_than_the_ini_file(
    pytester: pytest.Pytester, ini: str, option: list[str], expected: str
) -> None:
    """For one run; without either, errors fail."""
    pytester.makeini(f"[pytest]\n{ini}\n")
    assert fail_on(pytester.parseconfigure(*WITHOUT_DASH, *option)) == expected


def test_a_severity_that_does_not_exist_is_refused(pytester: pytest.Pytester) -> None:
    """Before any test is run, with those that do."""
    pytester.makeini("[pytest]\ngradscope_fail_on = fatal\n")
    with pytest.raises(pytest.UsageError, match="gradscope_fail_on is one of note, warning, error; it is 'fatal'"):
        pytester.parseconfigure(*WITHOUT_DASH)


def test_pytest_starts_as_fast_with_it_as_without(pytester: pytest.Pytester) -> None:
    """Where no test uses the fixture nothing heavy is imported because of the plugin."""
    pytester.makepyfile(
        """
        import sys

        def test_it(pytestconfig):
            assert pytestconfig.pluginmanager.has_plugin("gradscope")
            heavy = ("torch", "numpy", "pyarrow", "dash", "plotly", "rich", "gradscope.scope", "gradscope.records")
            assert [name for name in heavy if name in sys.modules] == []
        """
    )
    result = run(pytester)
    result.assert_outcomes(passed=1)


def test_a_fixture_of_the_same_name_of_the_users_own_is_left_alone(pytester: pytest.Pytester) -> None:
    """It wins over ours, and its test fails as it would without us."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def gradscope():
            return "mine"

        def test_it(gradscope):
            assert gradscope == "ours"
        """
    )
    result = run(pytester)
    result.assert_outcomes(failed=1)
    assert "GradScope ---" not in result.stdout.str()


def test_the_fixture_says_what_it_is(pytester: pytest.Pytester) -> None:
    """`pytest --fixtures` lists it with a sentence."""
    shown = run(pytester, "--fixtures").stdout.str()
    assert "A doctor for the training in a test: `watch`, `assert_healthy` and `check_model`" in shown
