/* A delegate that takes every node named edgetpu-custom-op and computes nothing, for the tests.

   The structs are the public ones of tensorflow/lite/core/c/common.h, as far as they are used here. FAKE_EDGETPU_LOG
   names a file that gets a line for each call; with FAKE_EDGETPU_BROKEN set it fails as an unplugged Edge TPU does. */

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
  int size;
  int data[];
} IntArray;

typedef struct Context Context;
typedef struct Node Node;

typedef struct {
  void* (*init)(Context*, const char*, size_t);
  void (*free)(Context*, void*);
  int (*prepare)(Context*, Node*);
  int (*invoke)(Context*, Node*);
  const char* (*profiling_string)(const Context*, const Node*);
  int32_t builtin_code;
  const char* custom_name;
  int version;
  /* Newer runtimes have more fields; zeros mean that they are not used. */
  void* later[16];
} Registration;

typedef struct Delegate {
  void* data;
  int (*Prepare)(Context*, struct Delegate*);
  void* copy_from;
  void* copy_to;
  void* free_handle;
  int64_t flags;
  void* builder;
  void* later[8];
} Delegate;

struct Context {
  size_t tensors_size;
  int (*GetExecutionPlan)(Context*, IntArray**);
  void* tensors;
  void* impl;
  void* resize;
  void (*ReportError)(Context*, const char*, ...);
  void* add;
  int (*GetNodeAndRegistration)(Context*, int, Node**, Registration**);
  int (*ReplaceNodeSubsetsWithDelegateKernels)(Context*, Registration, const IntArray*, Delegate*);
};

static void log_line(const char* what, const char* more) {
  const char* path = getenv("FAKE_EDGETPU_LOG");
  FILE* file = path ? fopen(path, "a") : NULL;
  if (file) {
    fprintf(file, "%s%s\n", what, more);
    fclose(file);
  }
}

static int invoke(Context* context, Node* node) {
  log_line("invoke", "");
  return 0;
}

static int nothing(Context* context, Node* node) { return 0; }

static int take_nodes(Context* context, Delegate* delegate) {
  IntArray* plan;
  if (context->GetExecutionPlan(context, &plan) != 0) return 1;
  IntArray* taken = calloc(1, sizeof(int) * (plan->size + 1));
  for (int i = 0; i < plan->size; i++) {
    Node* node;
    Registration* registration;
    if (context->GetNodeAndRegistration(context, plan->data[i], &node, &registration) != 0) return 1;
    if (registration->custom_name && strcmp(registration->custom_name, "edgetpu-custom-op") == 0)
      taken->data[taken->size++] = plan->data[i];
  }
  Registration kernel = {.prepare = nothing, .invoke = invoke, .custom_name = "FakeEdgeTpu", .version = 1};
  int status = context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, taken, delegate);
  free(taken);
  return status;
}

void* tflite_plugin_create_delegate(char** keys, char** values, size_t count, void (*report)(const char*)) {
  for (size_t i = 0; i < count; i++) log_line(keys[i], values[i]);
  if (getenv("FAKE_EDGETPU_BROKEN")) {
    report("no device found");
    return NULL;
  }
  Delegate* delegate = calloc(1, sizeof(Delegate));
  delegate->Prepare = take_nodes;
  delegate->flags = 1; /* kTfLiteDelegateFlagsAllowDynamicTensors */
  log_line("create", "");
  return delegate;
}

void tflite_plugin_destroy_delegate(void* delegate) { free(delegate); }
