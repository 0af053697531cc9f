"""The contract with Ray and vLLM: every name in use that they do not promise to keep.

Ray 2.60's direct streaming is experimental, and vLLM has no public interface below its HTTP API. When one
of these fails after an upgrade, the sentence says what is gone and which of our files uses it.
"""

import importlib
import importlib.resources
import inspect
from collections.abc import Callable
from functools import reduce
from typing import Any

import pytest

from serve_app.edge.options import EDGE_VARIABLE
from serve_app.environment import data_path_environment, replica_environment, router_environment
from serve_app.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

# (module, dotted name in it, our file that uses it)
NAMES = [
    ("ray.llm._internal.serve.core.configs.llm_config", "LLMConfig", "llm_options.py, replica.py"),
    ("ray.llm._internal.serve.core.configs.llm_config", "LLMConfig.get_engine_config", "llm_options.py, prompt.py"),
    ("ray.llm._internal.serve.core.configs.llm_config", "LLMConfig.get_or_create_callback", "replica.py"),
    ("ray.llm._internal.common.callbacks.base", "CallbackCtx.run_init_node", "replica.py"),
    ("ray.llm._internal.serve.core.server.llm_server", "LLMServer.start", "replica.py"),
    ("ray.llm._internal.serve.core.server.llm_server", "LLMServer.__serve_build_asgi_app__", "replica.py"),
    ("ray.llm._internal.serve.core.server.llm_server", "LLMServer.record_routing_stats", "replica.py"),
    ("ray.llm._internal.serve.core.server.llm_server", "LLMServer.reset_prefix_cache", "replica.py"),
    (
        "ray.llm._internal.serve.core.ingress.builder",
        "_build_direct_streaming_llm_deployment",
        "app.py",
    ),
    ("ray.llm._internal.serve.engines.vllm.vllm_engine", "_get_vllm_engine_config", "prompt.py"),
    ("ray.llm._internal.serve.engines.vllm.vllm_models", "VLLMEngineConfig.frontend_kwargs", "prompt.py, replica.py"),
    ("vllm.entrypoints.launchers.cli_args", "FrontendArgs.api_key", "replica.py"),
    ("ray.llm._internal.serve.core.configs.llm_config", "LLMConfig.engine_kwargs", "llm_options.py"),
    ("ray.llm._internal.serve.engines.vllm.vllm_models", "VLLMEngineConfig.actual_hf_model_id", "replica.py"),
    ("ray.serve", "Application._with_ingress_request_router", "app.py"),
    ("ray.serve.handle", "DeploymentHandle.broadcast", "broadcast.py, running_application.py"),
    ("ray.serve._private.common", "DeploymentTargetInfo.running_replicas", "ingress_router.py, router_channel.py"),
    ("ray.serve._private.common", "RunningReplicaInfo.replica_id", "ingress_router.py, router_channel.py"),
    ("ray.serve._private.common", "RunningReplicaInfo.node_ip", "router_channel.py"),
    ("ray.serve._private.common", "RunningReplicaInfo.backend_http_port", "router_channel.py"),
    ("ray.serve._private.common", "DeploymentID", "router_channel.py"),
    ("ray.serve._private.common", "RunningReplicaInfo.routing_stats", "ingress_router.py"),
    ("ray.serve._private.common", "RunningReplicaInfo.replica_metadata", "ingress_router.py"),
    ("ray.serve._private.common", "ReplicaID.to_full_id_str", "ingress_router.py, replica.py"),
    ("ray.serve._private.constants", "SERVE_CONTROLLER_NAME", "ingress_router.py, router_channel.py"),
    ("ray.serve._private.constants", "SERVE_MULTIPLEXED_MODEL_ID", "ingress_router.py"),
    ("ray.serve._private.constants", "SERVE_NAMESPACE", "ingress_router.py, router_channel.py"),
    ("ray.serve._private.constants", "SERVE_SESSION_ID", "ingress_router.py"),
    ("ray.serve._private.long_poll", "LongPollClient", "ingress_router.py, router_channel.py"),
    ("ray.serve._private.long_poll", "LongPollNamespace.DEPLOYMENT_TARGETS", "ingress_router.py, router_channel.py"),
    ("ray.serve.context", "ReplicaContext.rank", "replica.py"),
    ("fastapi.dependencies.utils", "get_dependant", "validation.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM.reset_prefix_cache", "replica.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM.is_paused", "replica.py"),
    ("vllm.v1.engine.core", "EngineCoreProc.is_scheduler_paused", "replica.py"),
    ("vllm.v1.engine.exceptions", "EngineDeadError", "replica.py"),
    ("vllm.config", "KVEventsConfig.replay_endpoint", "replica.py"),
    ("vllm.config", "KVEventsConfig.topic", "replica.py"),
    ("vllm.distributed.kv_events", "EventPublisherFactory._registry", "kv_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher.get_publisher_config", "kv_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher._publisher_thread", "kv_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher._service_replay", "kv_publisher.py"),
    ("vllm.distributed.kv_events", "BlockStored.extra_keys", "kv_wire.py"),
    ("vllm.distributed.kv_events", "BlockRemoved.group_idx", "kv_wire.py"),
    ("vllm.distributed.kv_events", "AllBlocksCleared", "kv_wire.py"),
    ("vllm.config", "CacheConfig.num_gpu_blocks", "replica.py"),
    ("vllm.config", "CacheConfig.block_size", "replica.py"),
    ("vllm.config", "ModelConfig.allowed_local_media_path", "prompt.py"),
    ("vllm.config", "ModelConfig.allowed_media_domains", "prompt.py"),
    ("vllm.engine.arg_utils", "AsyncEngineArgs.__dataclass_fields__", "llm_options.py"),
    ("vllm.entrypoints.launchers.cli_args", "FrontendArgs.__dataclass_fields__", "llm_options.py"),
    ("vllm.entrypoints.anthropic.protocol", "AnthropicMessagesRequest", "prompt.py"),
    (
        "vllm.entrypoints.anthropic.serving",
        "AnthropicServingMessages.to_chat_completion_request",
        "client_faults.py, prompt.py",
    ),
    (
        "vllm.entrypoints.anthropic.serving",
        "AnthropicServingMessages._detect_merge_inline_system",
        "prompt.py",
    ),
    ("vllm.entrypoints.chat_utils", "load_chat_template", "prompt.py"),
    ("vllm.entrypoints.launchers.cli_args", "FrontendArgs", "prompt.py"),
    ("vllm.entrypoints.openai.chat_completion.protocol", "ChatCompletionRequest", "prompt.py"),
    ("vllm.entrypoints.openai.completion.protocol", "CompletionRequest", "prompt.py"),
    ("vllm.entrypoints.openai.responses.protocol", "ResponsesRequest.build_chat_params", "prompt.py"),
    ("vllm.entrypoints.openai.responses.protocol", "ResponsesRequest.request_id", "replica.py"),
    ("vllm.entrypoints.openai.responses.serving", "OpenAIServingResponses.create_responses", "replica.py"),
    ("vllm.entrypoints.openai.responses.utils", "construct_input_messages", "prompt.py"),
    ("vllm.entrypoints.openai.responses.utils", "construct_tool_dicts", "prompt.py"),
    ("vllm.entrypoints.serve.engine.protocol", "ErrorResponse", "prompt.py"),
    ("vllm.exceptions", "VLLMClientError", "client_faults.py, prompt.py"),
    ("vllm.exceptions", "VLLMValidationError", "client_faults.py"),
    ("vllm.entrypoints.anthropic.serving", "AnthropicServingMessages.create_messages", "client_faults.py"),
    ("vllm.entrypoints.anthropic.serving", "AnthropicServingMessages.count_tokens", "client_faults.py"),
    ("vllm.entrypoints.anthropic.serving", "AnthropicServingMessages.create_error_response", "client_faults.py"),
    ("vllm.entrypoints.openai.responses.serving", "OpenAIServingResponses._make_request", "client_faults.py"),
    (
        "vllm.entrypoints.openai.responses.serving",
        "OpenAIServingResponses._make_request_with_harmony",
        "client_faults.py",
    ),
    ("vllm.model_executor.models.registry", "_MULTIMODAL_MODELS", "llm_options.py"),
    ("vllm.multimodal.media.connector", "MediaConnector._load_file_url", "client_faults.py"),
    ("vllm.renderers.online_renderer", "OnlineRenderer.preprocess_completion", "client_faults.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM._add_request", "client_faults.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM.abort", "client_faults.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM.generate", "client_faults.py"),
    ("vllm.v1.engine.input_processor", "InputProcessor.process_inputs", "client_faults.py"),
    ("vllm.config", "ModelConfig.is_multimodal_model", "replica.py"),
    ("vllm.config", "VllmConfig.kv_transfer_config", "client_faults.py"),
    ("vllm.inputs.engine", "MultiModalInput.mm_hashes", "prompt.py"),
    ("vllm.inputs.engine", "MultiModalInput.mm_placeholders", "prompt.py"),
    ("vllm.multimodal.inputs", "PlaceholderRange.length", "prompt.py"),
    ("vllm.multimodal.inputs", "PlaceholderRange.offset", "prompt.py"),
    ("vllm.renderers", "renderer_from_config", "prompt.py"),
    ("vllm.renderers.inputs.preprocess", "extract_prompt_components", "prompt.py"),
    ("vllm.renderers.online_renderer", "OnlineRenderer.render_chat", "client_faults.py, prompt.py"),
    ("vllm.renderers.online_renderer", "OnlineRenderer.render_completion", "client_faults.py, prompt.py"),
    ("vllm.renderers.online_renderer", "OnlineRenderer.preprocess_chat", "client_faults.py, prompt.py"),
    ("vllm.v1.engine.output_processor", "OutputProcessor.add_request", "engine_watch.py"),
    ("vllm.v1.engine.output_processor", "OutputProcessor.process_outputs", "engine_watch.py"),
    ("vllm.v1.engine.output_processor", "OutputProcessor.abort_requests", "engine_watch.py"),
    ("vllm.v1.engine.output_processor", "OutputProcessor.update_scheduler_stats", "engine_watch.py"),
    ("vllm.v1.engine.output_processor", "OutputProcessor.propagate_error", "engine_watch.py"),
    ("vllm.v1.engine.output_processor", "OutputProcessor.has_unfinished_requests", "engine_watch.py"),
    ("transformers.utils.chat_template_utils", "_compile_jinja_template", "chat_reader.py"),
    ("vllm.entrypoints.chat_utils", "parse_chat_messages", "chat_reader.py"),
    ("vllm.renderers.hf", "resolve_chat_template", "chat_reader.py"),
    ("vllm.renderers.hf", "resolve_chat_template_content_format", "chat_reader.py"),
    ("vllm.renderers.hf", "resolve_chat_template_kwargs", "chat_reader.py"),
    ("vllm.renderers.hf", "HfRenderer.get_tokenizer", "chat_reader.py, tokenizing.py"),
    ("vllm.renderers.params", "TokenizeParams.get_encode_kwargs", "tokenizing.py"),
    ("vllm.renderers.params", "TokenizeParams.return_token_offsets", "tokenizing.py"),
    ("vllm.renderers.params", "TokenizeParams.pad_prompt_tokens", "tokenizing.py"),
    ("vllm.v1.engine", "EngineCoreOutput.prefill_stats", "engine_watch.py"),
    ("vllm.v1.engine", "EngineCoreOutput.request_id", "engine_watch.py"),
    ("vllm.v1.engine", "EngineCoreRequest.prompt_token_ids", "engine_watch.py"),
    ("vllm.v1.engine", "EngineCoreRequest.cache_salt", "engine_watch.py"),
    ("vllm.v1.engine", "EngineCoreRequest.lora_request", "engine_watch.py"),
    ("vllm.v1.engine", "EngineCoreRequest.mm_features", "engine_watch.py"),
    ("vllm.v1.engine", "EngineCoreRequest.sampling_params", "engine_watch.py"),
    ("vllm.v1.engine", "EngineCoreRequest.pooling_params", "engine_watch.py"),
    ("vllm.v1.engine.core_client", "BackgroundResources.engine_manager", "replica.py"),
    ("vllm.config", "VllmConfig.additional_config", "simulated_worker.py"),
    ("vllm.engine.arg_utils", "EngineArgs.worker_cls", "simulated_engine.py"),
    ("vllm.v1.outputs", "LogprobsTensors", "simulated_worker.py"),
    ("vllm.v1.outputs", "ModelRunnerOutput.prompt_logprobs_dict", "simulated_worker.py"),
    ("vllm.v1.core.sched.output", "CachedRequestData.num_computed_tokens", "simulated_worker.py"),
    ("vllm.v1.core.sched.output", "CachedRequestData.num_output_tokens", "simulated_worker.py"),
    ("vllm.v1.core.sched.output", "GrammarOutput.grammar_bitmask", "simulated_worker.py"),
    ("vllm.v1.core.sched.output", "GrammarOutput.structured_output_request_ids", "simulated_worker.py"),
    ("vllm.v1.core.sched.output", "NewRequestData.num_computed_tokens", "simulated_worker.py"),
    ("vllm.v1.core.sched.output", "NewRequestData.prompt_len", "simulated_worker.py"),
    ("vllm.v1.core.sched.output", "NewRequestData.sampling_params", "simulated_worker.py"),
    ("vllm.v1.core.sched.output", "SchedulerOutput.finished_req_ids", "simulated_worker.py"),
    ("vllm.v1.core.sched.output", "SchedulerOutput.num_scheduled_tokens", "simulated_worker.py"),
    ("vllm.v1.core.sched.output", "SchedulerOutput.scheduled_cached_reqs", "simulated_worker.py"),
    ("vllm.v1.core.sched.output", "SchedulerOutput.scheduled_new_reqs", "simulated_worker.py"),
    ("vllm.v1.core.sched.output", "SchedulerOutput.total_num_scheduled_tokens", "simulated_worker.py"),
    ("vllm.v1.executor.uniproc_executor", "UniProcExecutor", "one_process_engine.py"),
    ("vllm.config", "ParallelConfig.distributed_executor_backend", "one_process_engine.py"),
    (
        "ray.llm._internal.serve.engines.vllm.vllm_engine",
        "VLLMEngine._start_async_llm_engine",
        "one_process_engine.py",
    ),
    ("vllm.engine.arg_utils", "EngineArgs.scheduler_cls", "simulated_engine.py"),
    ("vllm.v1.core.block_pool", "BlockPool.get_cached_block", "vllm_scheduler.py"),
    ("vllm.v1.core.sched.async_scheduler", "AsyncScheduler", "vllm_scheduler.py"),
    ("vllm.v1.core.sched.request_queue", "SchedulingPolicy.PRIORITY", "vllm_scheduler.py"),
    ("vllm.v1.kv_cache_interface", "FullAttentionSpec.block_size", "vllm_scheduler.py"),
    ("vllm.v1.kv_cache_interface", "KVCacheConfig.kv_cache_groups", "vllm_scheduler.py"),
    ("vllm.v1.kv_cache_interface", "KVCacheGroupSpec.kv_cache_spec", "vllm_scheduler.py"),
    ("vllm.v1.request", "Request.num_tokens", "vllm_scheduler.py"),
    ("vllm.v1.outputs", "ModelRunnerOutput.with_kv_conn_output_only", "simulated_worker.py"),
    ("vllm.v1.worker.gpu_worker", "Worker.get_kv_connector_handshake_metadata", "simulated_worker.py"),
    ("vllm.config", "ModelConfig.get_num_kv_heads", "simulated_worker.py, host_tier.py"),
    ("vllm.config", "ModelConfig.get_head_size", "simulated_worker.py, host_tier.py"),
    ("vllm.config", "ModelConfig.get_num_layers", "simulated_worker.py"),
    ("vllm.config", "ModelConfig.get_total_num_hidden_layers", "host_tier.py"),
    ("vllm.config", "ModelConfig.use_mla", "host_tier.py"),
    ("vllm.config", "KVTransferConfig.kv_connector", "host_tier.py"),
    ("vllm.config", "KVTransferConfig.kv_connector_extra_config", "host_tier.py"),
    ("vllm.utils.torch_utils", "get_kv_cache_torch_dtype", "simulated_worker.py, host_tier.py"),
    ("vllm.utils.torch_utils", "get_dtype_size", "host_tier.py"),
    ("vllm.v1.core.sched.output", "SchedulerOutput.kv_connector_metadata", "simulated_transfers.py"),
    (
        "vllm.distributed.kv_transfer.kv_connector.v1.offloading.common",
        "OffloadingConnectorMetadata.load_jobs",
        "simulated_transfers.py",
    ),
    (
        "vllm.distributed.kv_transfer.kv_connector.v1.offloading.common",
        "OffloadingConnectorMetadata.store_jobs",
        "simulated_transfers.py",
    ),
    (
        "vllm.distributed.kv_transfer.kv_connector.v1.offloading.common",
        "TransferJob.dst_spec",
        "simulated_transfers.py",
    ),
    ("vllm.v1.worker.worker_base", "WorkerBase.compile_or_warm_up_model", "simulated_worker.py"),
    ("vllm.v1.worker.worker_base", "WorkerBase.execute_model", "simulated_worker.py"),
    ("vllm.v1.worker.worker_base", "WorkerBase.get_kv_cache_spec", "simulated_worker.py"),
    ("vllm.v1.worker.worker_base", "WorkerBase.get_supported_kv_cache_layouts", "simulated_worker.py"),
    ("vllm.v1.worker.worker_base", "WorkerBase.init_device", "simulated_worker.py"),
    ("vllm.v1.worker.worker_base", "WorkerBase.load_model", "simulated_worker.py"),
    ("vllm.v1.worker.worker_base", "WorkerBase.sample_tokens", "simulated_worker.py"),
    ("vllm.v1.metrics.stats", "PrefillStats.num_prompt_tokens", "engine_watch.py"),
    ("vllm.v1.metrics.stats", "PrefillStats.num_local_cached_tokens", "engine_watch.py"),
    ("vllm.v1.metrics.stats", "PrefillStats.num_external_cached_tokens", "engine_watch.py"),
    ("vllm.v1.engine.detokenizer", "IncrementalDetokenizer.num_output_tokens", "engine_watch.py"),
    ("vllm.v1.metrics.stats", "SchedulerStats.num_waiting_reqs", "engine_watch.py"),
    ("vllm.v1.metrics.stats", "SchedulerStats.num_running_reqs", "engine_watch.py"),
    ("vllm.v1.metrics.stats", "SchedulerStats.kv_cache_usage", "engine_watch.py"),
    ("vllm.v1.metrics.stats", "SchedulerStats.prefix_cache_stats", "engine_watch.py"),
    ("vllm.v1.metrics.stats", "PrefixCacheStats.queries", "engine_watch.py"),
    ("vllm.v1.metrics.stats", "PrefixCacheStats.hits", "engine_watch.py"),
    ("vllm.sampling_params", "SamplingParams.skip_reading_prefix_cache", "engine_watch.py"),
    ("vllm.pooling_params", "PoolingParams.skip_reading_prefix_cache", "engine_watch.py"),
]

# (module, dotted name, parameters that we pass, our file)
PARAMETERS = [
    ("pydantic_core", "SchemaValidator", {"_use_prebuilt"}, "validation.py"),
    (
        "vllm.renderers.online_renderer",
        "OnlineRenderer.__init__",
        {
            "request_logger",
            "chat_template",
            "chat_template_content_format",
            "trust_request_chat_template",
            "enable_auto_tools",
            "exclude_tools_when_tool_choice_none",
            "tool_parser",
            "reasoning_parser",
            "default_chat_template_kwargs",
        },
        "prompt.py",
    ),
    (
        "vllm.renderers.online_renderer",
        "OnlineRenderer.preprocess_chat",
        {
            "default_template",
            "default_template_content_format",
            "default_template_kwargs",
            "tool_dicts",
            "parser",
            "skip_mm_cache",
        },
        "prompt.py",
    ),
    ("ray.llm._internal.serve.engines.vllm.vllm_engine", "_get_vllm_engine_config", {"device_type"}, "prompt.py"),
    (
        "ray.llm._internal.serve.core.ingress.builder",
        "_build_direct_streaming_llm_deployment",
        {"bind_kwargs"},
        "app.py",
    ),
    (
        "vllm.v1.outputs",
        "ModelRunnerOutput.__init__",
        {"req_ids", "req_id_to_index", "sampled_token_ids", "logprobs", "kv_connector_output"},
        "simulated_worker.py",
    ),
    (
        "vllm.v1.outputs",
        "KVConnectorOutput.__init__",
        {"finished_recving", "kv_connector_worker_meta"},
        "simulated_transfers.py",
    ),
    (
        "vllm.distributed.kv_transfer.kv_connector.v1.offloading.common",
        "OffloadingWorkerMetadata.__init__",
        {"completed_jobs"},
        "simulated_transfers.py",
    ),
    (
        "vllm.v1.kv_cache_interface",
        "FullAttentionSpec.__init__",
        {"block_size", "num_kv_heads", "head_size", "dtype"},
        "simulated_worker.py",
    ),
    ("ray.llm._internal.serve.core.server.llm_server", "LLMServer.__init__", {"engine_cls"}, "replica.py"),
    (
        "ray.llm._internal.serve.engines.vllm.vllm_engine",
        "VLLMEngine._start_async_llm_engine",
        {"vllm_engine_args", "vllm_engine_config", "placement_group"},
        "one_process_engine.py",
    ),
    (
        "ray.serve._private.long_poll",
        "LongPollClient.__init__",
        {"host_actor", "key_listeners", "call_in_event_loop", "client_id"},
        "ingress_router.py, router_channel.py",
    ),
    ("vllm.v1.engine.output_processor", "OutputProcessor.add_request", {"request"}, "engine_watch.py"),
    (
        "vllm.v1.engine.output_processor",
        "OutputProcessor.process_outputs",
        {"engine_core_outputs", "engine_core_timestamp", "iteration_stats"},
        "engine_watch.py",
    ),
]

# Attributes that exist only once an object was made, so that only the source can be asked: (module, class, text, file)
SOURCES = [
    ("fastapi._compat.v2", "ModelField", "self._type_adapter: ", "validation.py"),
    ("ray.serve.handle", "_DeploymentHandleBase", "self.deployment_id = ", "ingress_router.py"),
    ("ray.llm._internal.serve.engines.vllm.vllm_engine", "VLLMEngine", "self._engine_client = ", "replica.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "self.vllm_config = ", "replica.py"),
    ("vllm.v1.core.sched.scheduler", "Scheduler", "self.waiting = ", "vllm_scheduler.py"),
    ("vllm.v1.core.sched.scheduler", "Scheduler", "self.policy = ", "vllm_scheduler.py"),
    ("vllm.v1.core.sched.scheduler", "Scheduler", "self.hash_block_size = ", "vllm_scheduler.py"),
    ("vllm.v1.core.sched.scheduler", "Scheduler", "self.kv_cache_config = ", "vllm_scheduler.py"),
    ("vllm.v1.core.sched.scheduler", "Scheduler", "request = request_queue.peek_request()", "vllm_scheduler.py"),
    ("vllm.v1.core.sched.scheduler", "Scheduler", "self.waiting.prepend_request(request)", "vllm_scheduler.py"),
    ("vllm.v1.core.kv_cache_manager", "KVCacheManager", "self.block_pool = ", "vllm_scheduler.py"),
    ("vllm.v1.request", "Request", "self.block_hashes: list[BlockHash] = ", "vllm_scheduler.py"),
    ("vllm.v1.request", "Request", "self.priority = ", "vllm_scheduler.py"),
    ("vllm.v1.request", "Request", "self.skip_reading_prefix_cache = ", "vllm_scheduler.py"),
    ("starlette.applications", "Starlette", "self.middleware_stack = self.build_middleware_stack()", "replica.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "self.output_processor = ", "replica.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "self.engine_core = ", "replica.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher", "self._buffer = ", "kv_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher", "self._dp_rank = ", "kv_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher", "self._pub = ", "kv_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher", "self._replay = ", "kv_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher", "self._seq_gen = ", "kv_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher", "self._thread = ", "kv_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher", "self._topic_bytes = ", "kv_publisher.py"),
    ("vllm.v1.engine.core_client", "MPClient", "self.resources = ", "replica.py"),
    ("vllm.v1.engine.utils", "CoreEngineProcManager", "self.processes: list[BaseProcess] = ", "engine_watch.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "self.output_processor.add_request(request, ", "engine_watch.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "output_processor.process_outputs(", "engine_watch.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "outputs_slice, outputs.timestamp, iteration_stats", "engine_watch.py"),
    (
        "vllm.v1.engine.async_llm",
        "AsyncLLM",
        "output_processor.update_scheduler_stats(outputs.scheduler_stats)",
        "engine_watch.py",
    ),
    ("vllm.v1.engine.output_processor", "OutputProcessor", "self.request_states: dict", "engine_watch.py"),
    ("vllm.v1.engine.output_processor", "RequestState", "self.detokenizer = detokenizer", "engine_watch.py"),
    ("vllm.v1.metrics.stats", "IterationStats", "self.num_preempted_reqs = 0", "engine_watch.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "output_processor.propagate_error(e)", "engine_watch.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "self.output_processor.abort_requests(", "engine_watch.py"),
    ("ray.serve._private.replica", "UserCallableWrapper", '"record_autoscaling_stats"', "replica.py"),
    ("ray.serve._private.replica", "Replica", "options = configure_http_middlewares(", "route_endpoint.py"),
    ("vllm.renderers.base", "BaseRenderer", "self._tokenize_prompt_async = ", "chat_reader.py, tokenizing.py"),
    (
        "vllm.renderers.base",
        "BaseRenderer",
        "self.mm_processor: BaseMultiModalProcessor | None = ",
        "prompt.py, chat_reader.py",
    ),
    (
        "vllm.renderers.base",
        "BaseRenderer",
        "prompt = await self._tokenize_prompt_async(prompt, params)",
        "tokenizing.py",
    ),
    ("vllm.renderers.hf", "HfRenderer", "prompt_raw = await self._apply_chat_template_async(", "chat_reader.py"),
    ("vllm.renderers.online_renderer", "OnlineRenderer", "self.renderer = ", "chat_reader.py, prompt.py, replica.py"),
    (
        "vllm.entrypoints.launchers.api_server.app_state",
        "init_app_state",
        "renderer=engine_client.renderer",
        "replica.py",
    ),
    ("vllm.entrypoints.launchers.api_server.app_state", "init_app_state", "state.online_renderer = ", "replica.py"),
    ("ray.llm._internal.serve.core.server.llm_server", "LLMServer", "self._llm_config = ", "replica.py"),
    (
        "vllm.entrypoints.generate.api_router",
        "init_generate_state",
        "state.openai_serving_responses = ",
        "client_faults.py, replica.py",
    ),
    (
        "vllm.entrypoints.generate.api_router",
        "init_generate_state",
        "state.anthropic_serving_messages = ",
        "client_faults.py",
    ),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "await self._add_request(request, ", "client_faults.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "self.input_processor.process_inputs(", "client_faults.py"),
    ("vllm.multimodal.media.connector", "MediaConnector", "return self._load_file_url(url_spec", "client_faults.py"),
    ("vllm.multimodal.media.connector", "MediaConnector", "self.allowed_media_domains\n            and ", "media.py"),
    ("ray.llm._internal.serve.core.server.llm_server", "LLMServer", "self.engine", "replica.py"),
]


def find(module: str, name: str, used_in: str) -> Any:
    """The object, or a failure that says what is gone."""
    try:
        found = importlib.import_module(module)
    except ImportError:
        pytest.fail(f"{module} is gone; serve_app/{used_in} needs it: pin the version before, or adapt that file")
    try:
        return reduce(_attribute, name.split("."), found)
    except AttributeError:
        pytest.fail(
            f"{module}.{name} is gone; serve_app/{used_in} needs it: pin the version before, or adapt that file"
        )


def _attribute(owner: Any, name: str) -> Any:
    """Fields of dataclasses, pydantic's and typed dictionaries without a default are no class attributes."""
    for fields in ("__dataclass_fields__", "model_fields", "__annotations__"):
        if name in getattr(owner, fields, {}):
            return getattr(owner, fields)[name]
    return getattr(owner, name)


@pytest.mark.parametrize(("module", "name", "used_in"), NAMES, ids=[name for _, name, _ in NAMES])
def test_a_private_name_is_still_there(module: str, name: str, used_in: str) -> None:
    """By import."""
    find(module, name, used_in)


@pytest.mark.parametrize(
    ("module", "name", "parameters", "used_in"), PARAMETERS, ids=[name for _, name, _, _ in PARAMETERS]
)
def test_a_private_function_still_takes_our_arguments(
    module: str, name: str, parameters: set[str], used_in: str
) -> None:
    """By signature."""
    function: Callable[..., Any] = find(module, name, used_in)
    gone = parameters - inspect.signature(function).parameters.keys()
    assert not gone, f"{module}.{name} no longer takes {gone}; serve_app/{used_in} passes it: adapt that file"


@pytest.mark.parametrize(
    ("module", "name", "text", "used_in"), SOURCES, ids=[f"{name} {text}" for _, name, text, _ in SOURCES]
)
def test_a_private_attribute_is_still_set(module: str, name: str, text: str, used_in: str) -> None:
    """By source."""
    source = inspect.getsource(find(module, name, used_in))
    assert text in source, (
        f"{module}.{name} no longer sets {text.strip(' =')}; serve_app/{used_in} reads it: adapt that file"
    )


@pytest.mark.parametrize(
    "variable",
    {**data_path_environment(Settings(llm={})), **router_environment(), **replica_environment()}.keys()
    - {EDGE_VARIABLE},
)
def test_our_variables_are_still_read(variable: str) -> None:
    """Every one that environment.py sets; a renamed one would silently mean Ray's default, or vLLM's."""
    modules = ("ray.serve._private.constants", "ray.llm._internal.serve.constants", "vllm.envs")
    read = any(f'"{variable}"' in inspect.getsource(importlib.import_module(module)) for module in modules)
    assert read, f"nobody reads {variable} any longer; serve_app/environment.py sets it: adapt that file"


def test_haproxy_still_retries_and_stops_as_configured() -> None:
    """The values reach HAProxy's configuration by this template."""
    template = find("ray.serve._private.haproxy_templates", "HAPROXY_CONFIG_TEMPLATE", "environment.py")
    for directive in ("retry-on {{ config.retry_on }}", "hard-stop-after {{ config.hard_stop_after_s }}s"):
        assert directive in template, f"Ray's HAProxy template has no {directive!r} any more: see docs/failures.md"


def test_serve_still_counts_where_no_router_decides() -> None:
    """By the reason that our Lua program gives; an alert goes by it."""
    from serve_app.monitoring.alerts import NO_REPLICA_THERE, ROUTER_FAILURES, ROUTER_REQUESTS

    source = inspect.getsource(
        find("ray.serve._private.haproxy_metrics", "HAProxyMetricsCollector", "monitoring/alerts.py")
    )
    for text in (
        f'"{ROUTER_FAILURES.name}"',
        f'"{ROUTER_REQUESTS.name}"',
        'tag_keys=("application", "reason")',
        f"'{NO_REPLICA_THERE}'",
    ):
        assert text in source, f"Ray's metrics of HAProxy have no {text} any more: see serve_app/monitoring/alerts.py"


def test_haproxy_still_hands_over_what_the_reader_looks_for() -> None:
    """The session's header under the name that SERVE_SESSION_ID has, and the one that says that the body is cut."""
    template = importlib.resources.files("ray.serve._private").joinpath("ingress_request_router.lua.tmpl").read_text()
    for line in ('session_header = SESSION_HEADER .. ": " .. session_id', 'truncation_header = "X-Body-Truncated: "'):
        assert line in template, f"Ray's router script has no {line!r} any more; serve_app/request_reader.py needs it"


def test_haproxy_still_strips_our_header_from_clients() -> None:
    """The note's name begins with the prefix that Serve reserves for routers."""
    from serve_app.routing_note import NOTE_HEADER

    prefix = find("ray.serve._private.constants", "SERVE_INGRESS_ROUTER_HEADER_PREFIX", "routing_note.py")
    assert NOTE_HEADER.startswith(prefix)


def test_vllm_still_ends_completions_without_a_limit_where_we_think() -> None:
    """Routers go by it as if the client had named it."""
    from serve_app.request_body import COMPLETION_TOKENS

    completions = find("vllm.entrypoints.openai.completion.protocol", "CompletionRequest", "request_body.py")
    assert completions(prompt="a").max_tokens == COMPLETION_TOKENS


def test_a_name_that_is_gone_is_reported_in_a_sentence() -> None:
    """So that this file can be trusted to fail."""
    with pytest.raises(
        pytest.fail.Exception, match=r"ray.serve.gone is gone; serve_app/x.py needs it: pin the version"
    ):
        find("ray.serve", "gone", "x.py")
