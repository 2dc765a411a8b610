# Every target can be the first command on a fresh clone: .venv is made when it is needed.
# Variables: DATA (folder of class folders, zip, URL of a zip, index.csv, or smileys), RECIPE, NAME, EPOCHS, WEIGHTS (imagenet, none or FILE.h5),
# MODEL (bundle or model file), SOURCE (images for classify; camera index, device or video file for camera),
# OVERWRITE=1, RESUME=1, QUICK=1 (bench), PYTHON.

PYTHON ?= python3
DATA ?= smileys
RECIPE ?= cnn-small
NAME ?= $(patsubst %.zip,%,$(patsubst %.csv,%,$(notdir $(patsubst %/,%,$(DATA)))))
EPOCHS ?=
WEIGHTS ?=
MODEL ?= bundles/$(NAME)
SOURCE ?=
OVERWRITE ?=
QUICK ?=
RESUME ?=

VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup
# tflite-runtime needs numpy 1, so it lives in a virtual environment of its own; its last release stops at Python 3.11.
TFLITE_SETUP := .venv-tflite/.setup
# MediaPipe brings libraries of its own that training and conversion need not get along with.
MEDIAPIPE := 1.2.2
MEDIAPIPE_SETUP := .venv-mediapipe/.setup-$(MEDIAPIPE)
# Other tools that we compare with have an environment each. What pip says stays there, for the table of bench-peers.
PEERS := litert onnxruntime ultralytics
PEER_INSTALL = $(@D)/bin/python -m pip install --quiet --disable-pip-version-check $(1) 2>$(@D)/pip.txt \
	|| { cat $(@D)/pip.txt >&2; exit 1; }
TFLITE := float32 float16 dynamic int8 int8-per-tensor int16x8
ONNX := onnx-float32 onnx-int8
FORCE := $(if $(OVERWRITE),--overwrite)

.DEFAULT_GOAL := help
.PHONY: help setup demo audit train tflite onnx bench bench-peers bench-mlperf-tiny classify camera lint test test-all check
.PHONY: test-arm64 clean lock fuzz
.PHONY: for-tflite-runtime for-mediapipe for-arm64

help: ## List the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18
	@printf '\nVariables: DATA=%s RECIPE=%s NAME=%s EPOCHS=%s WEIGHTS=%s MODEL=%s SOURCE=%s OVERWRITE=%s\n' \
		'$(DATA)' '$(RECIPE)' '$(NAME)' '$(EPOCHS)' '$(WEIGHTS)' '$(MODEL)' '$(SOURCE)' '$(OVERWRITE)'

setup: $(SETUP) ## Make .venv with everything that training, conversion, benchmarks and tests need

$(SETUP): pyproject.toml requirements/workstation.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' \
		|| { echo '$(PYTHON) is not Python 3.10 to 3.13: name one, as in make PYTHON=python3.12'; exit 1; }
	@echo 'installing into $(VENV), a minute or two (TensorFlow is large)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/workstation.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

# Versions and hashes for Linux on x86-64 and arm64, Python 3.10 to 3.13. uv resolves for all of them at once.
LOCK = .venv-lock/bin/uv pip compile --quiet --universal --generate-hashes --python-version 3.10 -c constraints.txt \
	--no-emit-index-url --no-annotate --custom-compile-command 'make lock' pyproject.toml

lock: ## Write requirements/*.txt, versions with hashes, anew from pyproject.toml and constraints.txt
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	$(LOCK) --extra train --extra convert --extra bench --extra dev -o requirements/workstation.txt
	$(LOCK) --extra device --extra onnx -o requirements/device.txt

$(TFLITE_SETUP): pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear .venv-tflite
	.venv-tflite/bin/python -m pip install --quiet --disable-pip-version-check \
		'tflite-runtime==2.14.0' 'numpy<2' 'opencv-python-headless<4.12' 'click>=8.1'
	touch $@

$(MEDIAPIPE_SETUP):
	$(PYTHON) -m venv --clear .venv-mediapipe
	$(call PEER_INSTALL,'mediapipe==$(MEDIAPIPE)')
	touch $@

$(PEERS:%=.venv-%/.setup): .venv-%/.setup: benchmarks/peers/environments/%.txt
	$(PYTHON) -m venv --clear .venv-$*
	$(call PEER_INSTALL,-r $<)
	touch $@

demo: $(SETUP) ## Train, convert, benchmark and classify on the built-in set; no network beyond package installs
	$(BIN)/edge-train run --data smileys --recipe cnn-small --name smileys --out runs/demo --overwrite
	$(BIN)/edge-convert run runs/demo --out bundles/demo --overwrite
	$(BIN)/edge-bench run bundles/demo --keras runs/demo --quick --out reports/demo --overwrite
	$(BIN)/edge-train draw demo-photos
	$(BIN)/edge-run classify bundles/demo demo-photos
	@printf '\nThe bundle is bundles/demo, the training report runs/demo/report.html, the benchmark reports/demo/report.html.\n'
	@printf 'Hold an image of demo-photos before a camera: make camera MODEL=bundles/demo\n'

audit: $(SETUP) ## Look for broken, mislabelled, copied and leaking images in DATA, into audits/NAME
	$(BIN)/edge-train data '$(DATA)' --out audits/$(NAME) --overwrite

train: $(SETUP) ## Train RECIPE on DATA into runs/NAME
	$(BIN)/edge-train run --data '$(DATA)' --recipe '$(RECIPE)' --name $(NAME) --out runs/$(NAME) \
		$(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(WEIGHTS),--weights '$(WEIGHTS)') \
		$(if $(RESUME),--resume) $(FORCE)

tflite: $(SETUP) ## Convert runs/NAME to every TFLite variant, check each against Keras, into bundles/NAME
	$(BIN)/edge-convert run runs/$(NAME) $(addprefix --variant ,$(TFLITE)) --out bundles/$(NAME) $(FORCE)

onnx: $(SETUP) ## Convert runs/NAME to ONNX, float32 and int8, into bundles/NAME-onnx
	$(BIN)/edge-convert run runs/$(NAME) $(addprefix --variant ,$(ONNX)) --out bundles/$(NAME)-onnx $(FORCE)

# What make bench needs and is not there is made by the defaults of the two programs before it.
runs/%/manifest.json: | $(SETUP)
	$(BIN)/edge-train run --data '$(DATA)' --recipe '$(RECIPE)' --name $* --out runs/$* \
		$(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(WEIGHTS),--weights '$(WEIGHTS)')

.PRECIOUS: runs/%/manifest.json bundles/%/manifest.json

bundles/%/manifest.json: | runs/%/manifest.json
	$(BIN)/edge-convert run runs/$* --out bundles/$*

bench: $(SETUP) $(patsubst %,%/manifest.json,$(filter bundles/$(NAME),$(MODEL))) ## Measure bundle MODEL against the Keras model of runs/NAME into reports/NAME
	$(BIN)/edge-bench run '$(MODEL)' --keras runs/$(NAME) --out reports/$(NAME) $(if $(QUICK),--quick) $(FORCE)

bench-peers: $(SETUP) bundles/$(NAME)/manifest.json ## Measure bundles/NAME beside MediaPipe, LiteRT, ONNX Runtime, Keras and Ultralytics into reports/peers
	@$(MAKE) --no-print-directory $(MEDIAPIPE_SETUP) || echo 'MediaPipe cannot be installed here; the table says why'
	@for peer in $(PEERS); do $(MAKE) --no-print-directory .venv-$$peer/.setup \
		|| echo "$$peer cannot be installed here; the table says why"; done
	$(BIN)/python -m benchmarks.peers --bundle bundles/$(NAME) --keras runs/$(NAME) --out reports/peers --overwrite

bench-mlperf-tiny: $(SETUP) ## Measure MLPerf Tiny's ResNet8 files of DATA, and our own, into reports/mlperf-tiny
	$(BIN)/python -m benchmarks.mlperf_tiny $(if $(filter smileys,$(DATA)),,--data '$(DATA)') \
		--out reports/mlperf-tiny --overwrite

classify: $(SETUP) ## Classify the images of SOURCE with MODEL
	@test -n '$(SOURCE)' || { echo 'say which images: make classify SOURCE=photos'; exit 2; }
	$(BIN)/edge-run classify '$(MODEL)' '$(SOURCE)'

camera: $(SETUP) ## Classify what the camera SOURCE sees (default 0) with MODEL, one line a result
	$(BIN)/edge-run camera '$(MODEL)' --source '$(or $(SOURCE),0)'

lint: $(SETUP) ## ruff, mypy and import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A worker for each core, at most four, because one that loads TensorFlow and its children take 2 GB. Files stay whole,
# since their tests share what is slow to make; tests/conftest.py puts the longest first.
PYTEST = $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: $(SETUP) ## Run the tests that take seconds and need no second environment
	$(PYTEST) -m 'not slow and not second_env and not arm64'

test-all: $(SETUP) ## Run every test that this machine can, with tflite-runtime, MediaPipe and emulated arm64; a skip says why
	@$(MAKE) --no-print-directory --jobs=3 for-tflite-runtime for-mediapipe for-arm64
	$(PYTEST)

for-tflite-runtime:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 12))' && $(MAKE) --no-print-directory $(TFLITE_SETUP) \
		|| echo 'tflite-runtime cannot be installed here; its tests will be skipped'

for-mediapipe:
	@$(MAKE) --no-print-directory $(MEDIAPIPE_SETUP) || echo 'MediaPipe cannot be installed here; its tests will be skipped'

for-arm64:
	@tests/programs/arm64_root.sh || echo 'no emulated arm64 here; its tests will be skipped'

check: lint test ## lint and test, before a commit

fuzz: $(SETUP) ## Hand 20,000 damaged files to edgekit and kill its programs 500 times, at most 15 minutes
	$(BIN)/python tests/fuzz/run.py

test-arm64: $(SETUP) ## Install the built wheel on emulated Raspberry Pis 4 and 5 and prove that the answers are the same there
	tests/programs/arm64_root.sh
	$(BIN)/pytest -m arm64

clean: ## Remove virtual environments, caches and everything that was made
	rm -rf $(VENV) .venv-lock .venv-tflite .venv-mediapipe $(PEERS:%=.venv-%) .arm64 build dist *.egg-info runs bundles reports audits demo-photos
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
