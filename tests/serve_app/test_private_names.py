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

from serve_app.control.environment import data_path_environment, replica_environment, router_environment
from serve_app.edge.options import EDGE_VARIABLE
from serve_app.settings.schema import Settings

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

# (module, dotted name in it, our file that uses it)
NAMES = [
    ("ray.llm._internal.serve.core.configs.llm_config", "LLMConfig", "settings/vllm_options.py, replica/deployment.py"),
    (
        "ray.llm._internal.serve.core.configs.llm_config",
        "LLMConfig.get_engine_config",
        "settings/vllm_options.py, prompt/vllm_reader.py",
    ),
    ("ray.llm._internal.serve.core.configs.llm_config", "LLMConfig.get_or_create_callback", "replica/deployment.py"),
    ("ray.llm._internal.common.callbacks.base", "CallbackCtx.run_init_node", "replica/deployment.py"),
    ("ray.llm._internal.serve.core.server.llm_server", "LLMServer.start", "replica/deployment.py"),
    ("ray.llm._internal.serve.core.server.llm_server", "LLMServer.__serve_build_asgi_app__", "replica/deployment.py"),
    ("ray.llm._internal.serve.core.server.llm_server", "LLMServer.record_routing_stats", "replica/deployment.py"),
    ("ray.llm._internal.serve.core.server.llm_server", "LLMServer.reset_prefix_cache", "replica/deployment.py"),
    (
        "ray.llm._internal.serve.core.ingress.builder",
        "_build_direct_streaming_llm_deployment",
        "app.py",
    ),
    ("ray.llm._internal.serve.engines.vllm.vllm_engine", "_get_vllm_engine_config", "prompt/vllm_reader.py"),
    (
        "ray.llm._internal.serve.engines.vllm.vllm_models",
        "VLLMEngineConfig.frontend_kwargs",
        "prompt/vllm_reader.py, replica/deployment.py",
    ),
    ("vllm.entrypoints.launchers.cli_args", "FrontendArgs.api_key", "replica/deployment.py"),
    ("ray.llm._internal.serve.core.configs.llm_config", "LLMConfig.engine_kwargs", "settings/vllm_options.py"),
    (
        "ray.llm._internal.serve.engines.vllm.vllm_models",
        "VLLMEngineConfig.actual_hf_model_id",
        "replica/deployment.py",
    ),
    ("ray.serve", "Application._with_ingress_request_router", "app.py"),
    ("ray.serve.handle", "DeploymentHandle.broadcast", "control/ray_broadcast.py, control/running_application.py"),
    (
        "ray.serve._private.common",
        "DeploymentTargetInfo.running_replicas",
        "control/ray_long_poll.py",
    ),
    (
        "ray.serve._private.common",
        "RunningReplicaInfo.replica_id",
        "ingress/deployment.py, control/ray_router_channel.py",
    ),
    ("ray.serve._private.common", "RunningReplicaInfo.node_ip", "control/ray_router_channel.py"),
    ("ray.serve._private.common", "RunningReplicaInfo.backend_http_port", "control/ray_router_channel.py"),
    ("ray.serve._private.common", "DeploymentID", "control/ray_long_poll.py, control/ray_router_channel.py"),
    ("ray.serve._private.common", "RunningReplicaInfo.routing_stats", "ingress/deployment.py"),
    ("ray.serve._private.common", "RunningReplicaInfo.replica_metadata", "ingress/deployment.py"),
    ("ray.serve._private.common", "ReplicaID.to_full_id_str", "ingress/deployment.py, replica/deployment.py"),
    ("ray.serve._private.constants", "SERVE_CONTROLLER_NAME", "control/ray_long_poll.py"),
    ("ray.serve._private.constants", "SERVE_MULTIPLEXED_MODEL_ID", "ingress/deployment.py"),
    ("ray.serve._private.constants", "SERVE_NAMESPACE", "control/ray_long_poll.py"),
    ("ray.serve._private.constants", "SERVE_SESSION_ID", "ingress/deployment.py"),
    ("ray.serve._private.long_poll", "LongPollClient", "control/ray_long_poll.py"),
    (
        "ray.serve._private.long_poll",
        "LongPollNamespace.DEPLOYMENT_TARGETS",
        "control/ray_long_poll.py",
    ),
    ("ray.serve.context", "ReplicaContext.rank", "replica/deployment.py"),
    ("fastapi.dependencies.utils", "get_dependant", "prompt/validation.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM.reset_prefix_cache", "prompt/vllm_hooks.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM.is_paused", "replica/serving_replica.py"),
    ("vllm.v1.engine.core", "EngineCoreProc.is_scheduler_paused", "replica/serving_replica.py"),
    ("vllm.v1.engine.exceptions", "EngineDeadError", "replica/vllm_outputs.py"),
    ("vllm.config", "KVEventsConfig.replay_endpoint", "replica/kv_events/endpoints.py"),
    ("vllm.config", "KVEventsConfig.topic", "replica/kv_events/endpoints.py"),
    ("vllm.distributed.kv_events", "EventPublisherFactory._registry", "prompt/vllm_hooks.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher.get_publisher_config", "replica/kv_events/vllm_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher._publisher_thread", "replica/kv_events/vllm_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher._service_replay", "replica/kv_events/vllm_publisher.py"),
    ("vllm.distributed.kv_events", "BlockStored.extra_keys", "replica/kv_events/wire.py"),
    ("vllm.distributed.kv_events", "BlockRemoved.group_idx", "replica/kv_events/wire.py"),
    ("vllm.distributed.kv_events", "AllBlocksCleared", "replica/kv_events/wire.py"),
    ("vllm.config", "CacheConfig.num_gpu_blocks", "replica/deployment.py"),
    ("vllm.config", "CacheConfig.block_size", "replica/deployment.py"),
    ("vllm.config", "ModelConfig.allowed_local_media_path", "prompt/vllm_reader.py"),
    ("vllm.config", "ModelConfig.allowed_media_domains", "prompt/vllm_reader.py"),
    ("vllm.engine.arg_utils", "AsyncEngineArgs.__dataclass_fields__", "settings/vllm_options.py"),
    ("vllm.entrypoints.launchers.cli_args", "FrontendArgs.__dataclass_fields__", "settings/vllm_options.py"),
    ("vllm.entrypoints.anthropic.protocol", "AnthropicMessagesRequest", "prompt/vllm_reader.py"),
    (
        "vllm.entrypoints.anthropic.serving",
        "AnthropicServingMessages.to_chat_completion_request",
        "prompt/vllm_hooks.py, prompt/vllm_reader.py",
    ),
    (
        "vllm.entrypoints.anthropic.serving",
        "AnthropicServingMessages._detect_merge_inline_system",
        "prompt/vllm_reader.py",
    ),
    ("vllm.entrypoints.chat_utils", "load_chat_template", "prompt/vllm_reader.py"),
    ("vllm.entrypoints.launchers.cli_args", "FrontendArgs", "prompt/vllm_reader.py"),
    ("vllm.entrypoints.openai.chat_completion.protocol", "ChatCompletionRequest", "prompt/vllm_reader.py"),
    ("vllm.entrypoints.openai.completion.protocol", "CompletionRequest", "prompt/vllm_reader.py"),
    ("vllm.entrypoints.openai.responses.protocol", "ResponsesRequest.build_chat_params", "prompt/vllm_reader.py"),
    ("vllm.entrypoints.openai.responses.protocol", "ResponsesRequest.request_id", "replica/deployment.py"),
    ("vllm.entrypoints.openai.responses.serving", "OpenAIServingResponses.create_responses", "prompt/vllm_hooks.py"),
    ("vllm.entrypoints.openai.responses.utils", "construct_input_messages", "prompt/vllm_reader.py"),
    ("vllm.entrypoints.openai.responses.utils", "construct_tool_dicts", "prompt/vllm_reader.py"),
    ("vllm.entrypoints.serve.engine.protocol", "ErrorResponse", "prompt/vllm_reader.py"),
    ("vllm.exceptions", "VLLMClientError", "prompt/vllm_client_faults.py, prompt/vllm_reader.py"),
    ("vllm.exceptions", "VLLMValidationError", "prompt/vllm_client_faults.py"),
    ("vllm.entrypoints.anthropic.serving", "AnthropicServingMessages.create_messages", "prompt/vllm_hooks.py"),
    ("vllm.entrypoints.anthropic.serving", "AnthropicServingMessages.count_tokens", "prompt/vllm_hooks.py"),
    (
        "vllm.entrypoints.anthropic.serving",
        "AnthropicServingMessages.create_error_response",
        "prompt/vllm_client_faults.py",
    ),
    (
        "vllm.entrypoints.openai.responses.serving",
        "OpenAIServingResponses._make_request",
        "prompt/vllm_hooks.py",
    ),
    (
        "vllm.entrypoints.openai.responses.serving",
        "OpenAIServingResponses._make_request_with_harmony",
        "prompt/vllm_hooks.py",
    ),
    ("vllm.model_executor.models.registry", "_MULTIMODAL_MODELS", "settings/vllm_options.py"),
    ("vllm.multimodal.media.connector", "MediaConnector._load_file_url", "prompt/vllm_client_faults.py"),
    ("vllm.renderers.online_renderer", "OnlineRenderer.preprocess_completion", "prompt/vllm_hooks.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM._add_request", "prompt/vllm_hooks.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM.abort", "prompt/vllm_client_faults.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM.generate", "prompt/vllm_hooks.py"),
    ("vllm.v1.engine.input_processor", "InputProcessor.process_inputs", "prompt/vllm_hooks.py"),
    ("vllm.config", "ModelConfig.is_multimodal_model", "replica/deployment.py"),
    ("vllm.config", "VllmConfig.kv_transfer_config", "prompt/vllm_client_faults.py"),
    ("vllm.inputs.engine", "MultiModalInput.mm_hashes", "prompt/vllm_reader.py"),
    ("vllm.inputs.engine", "MultiModalInput.mm_placeholders", "prompt/vllm_reader.py"),
    ("vllm.multimodal.inputs", "PlaceholderRange.length", "prompt/vllm_reader.py"),
    ("vllm.multimodal.inputs", "PlaceholderRange.offset", "prompt/vllm_reader.py"),
    ("vllm.renderers", "renderer_from_config", "prompt/vllm_reader.py"),
    ("vllm.renderers.inputs.preprocess", "extract_prompt_components", "prompt/vllm_reader.py"),
    (
        "vllm.renderers.online_renderer",
        "OnlineRenderer.render_chat",
        "prompt/vllm_hooks.py, prompt/vllm_reader.py",
    ),
    (
        "vllm.renderers.online_renderer",
        "OnlineRenderer.render_completion",
        "prompt/vllm_hooks.py, prompt/vllm_reader.py",
    ),
    (
        "vllm.renderers.online_renderer",
        "OnlineRenderer.preprocess_chat",
        "prompt/vllm_hooks.py, prompt/vllm_reader.py",
    ),
    ("vllm.v1.engine.output_processor", "OutputProcessor.add_request", "prompt/vllm_hooks.py, replica/vllm_outputs.py"),
    (
        "vllm.v1.engine.output_processor",
        "OutputProcessor.process_outputs",
        "prompt/vllm_hooks.py, replica/vllm_outputs.py",
    ),
    (
        "vllm.v1.engine.output_processor",
        "OutputProcessor.abort_requests",
        "prompt/vllm_hooks.py, replica/vllm_outputs.py",
    ),
    (
        "vllm.v1.engine.output_processor",
        "OutputProcessor.update_scheduler_stats",
        "prompt/vllm_hooks.py, replica/vllm_outputs.py",
    ),
    (
        "vllm.v1.engine.output_processor",
        "OutputProcessor.propagate_error",
        "prompt/vllm_hooks.py, replica/vllm_outputs.py",
    ),
    ("vllm.v1.engine.output_processor", "OutputProcessor.has_unfinished_requests", "replica/vllm_outputs.py"),
    ("transformers.utils.chat_template_utils", "_compile_jinja_template", "prompt/vllm_chat_reader.py"),
    ("vllm.entrypoints.chat_utils", "parse_chat_messages", "prompt/vllm_chat_reader.py"),
    ("vllm.renderers.hf", "resolve_chat_template", "prompt/vllm_chat_reader.py"),
    ("vllm.renderers.hf", "resolve_chat_template_content_format", "prompt/vllm_chat_reader.py"),
    ("vllm.renderers.hf", "resolve_chat_template_kwargs", "prompt/vllm_chat_reader.py"),
    ("vllm.renderers.hf", "HfRenderer.get_tokenizer", "prompt/vllm_chat_reader.py, prompt/vllm_tokenizing.py"),
    ("vllm.renderers.params", "TokenizeParams.get_encode_kwargs", "prompt/vllm_tokenizing.py"),
    ("vllm.renderers.params", "TokenizeParams.return_token_offsets", "prompt/vllm_tokenizing.py"),
    ("vllm.renderers.params", "TokenizeParams.pad_prompt_tokens", "prompt/vllm_tokenizing.py"),
    ("vllm.v1.engine", "EngineCoreOutput.prefill_stats", "replica/vllm_outputs.py"),
    ("vllm.v1.engine", "EngineCoreOutput.request_id", "replica/vllm_outputs.py"),
    ("vllm.v1.engine", "EngineCoreRequest.prompt_token_ids", "replica/vllm_outputs.py"),
    ("vllm.v1.engine", "EngineCoreRequest.cache_salt", "replica/vllm_outputs.py"),
    ("vllm.v1.engine", "EngineCoreRequest.lora_request", "replica/vllm_outputs.py"),
    ("vllm.v1.engine", "EngineCoreRequest.mm_features", "replica/vllm_outputs.py"),
    ("vllm.v1.engine", "EngineCoreRequest.sampling_params", "replica/vllm_outputs.py"),
    ("vllm.v1.engine", "EngineCoreRequest.pooling_params", "replica/vllm_outputs.py"),
    ("vllm.v1.engine.core_client", "BackgroundResources.engine_manager", "replica/serving_replica.py"),
    ("vllm.config", "VllmConfig.additional_config", "engines/vllm_worker.py"),
    ("vllm.engine.arg_utils", "EngineArgs.worker_cls", "engines/options.py"),
    ("vllm.v1.outputs", "LogprobsTensors", "engines/vllm_worker.py"),
    ("vllm.v1.outputs", "ModelRunnerOutput.prompt_logprobs_dict", "engines/vllm_worker.py"),
    ("vllm.v1.core.sched.output", "CachedRequestData.num_computed_tokens", "engines/vllm_worker.py"),
    ("vllm.v1.core.sched.output", "CachedRequestData.num_output_tokens", "engines/vllm_worker.py"),
    ("vllm.v1.core.sched.output", "GrammarOutput.grammar_bitmask", "engines/vllm_worker.py"),
    ("vllm.v1.core.sched.output", "GrammarOutput.structured_output_request_ids", "engines/vllm_worker.py"),
    ("vllm.v1.core.sched.output", "NewRequestData.num_computed_tokens", "engines/vllm_worker.py"),
    ("vllm.v1.core.sched.output", "NewRequestData.prompt_len", "engines/vllm_worker.py"),
    ("vllm.v1.core.sched.output", "NewRequestData.sampling_params", "engines/vllm_worker.py"),
    ("vllm.v1.core.sched.output", "SchedulerOutput.finished_req_ids", "engines/vllm_worker.py"),
    ("vllm.v1.core.sched.output", "SchedulerOutput.num_scheduled_tokens", "engines/vllm_worker.py"),
    ("vllm.v1.core.sched.output", "SchedulerOutput.scheduled_cached_reqs", "engines/vllm_worker.py"),
    ("vllm.v1.core.sched.output", "SchedulerOutput.scheduled_new_reqs", "engines/vllm_worker.py"),
    ("vllm.v1.core.sched.output", "SchedulerOutput.total_num_scheduled_tokens", "engines/vllm_worker.py"),
    ("vllm.v1.executor.uniproc_executor", "UniProcExecutor", "engines/vllm_one_process.py"),
    ("vllm.config", "ParallelConfig.distributed_executor_backend", "engines/vllm_one_process.py"),
    (
        "ray.llm._internal.serve.engines.vllm.vllm_engine",
        "VLLMEngine._start_async_llm_engine",
        "engines/vllm_one_process.py",
    ),
    ("vllm.engine.arg_utils", "EngineArgs.scheduler_cls", "engines/options.py"),
    ("vllm.v1.core.block_pool", "BlockPool.get_cached_block", "engines/vllm_scheduler.py"),
    ("vllm.v1.core.sched.async_scheduler", "AsyncScheduler", "engines/vllm_scheduler.py"),
    ("vllm.v1.core.sched.request_queue", "SchedulingPolicy.PRIORITY", "engines/vllm_scheduler.py"),
    ("vllm.v1.kv_cache_interface", "FullAttentionSpec.block_size", "engines/vllm_scheduler.py"),
    ("vllm.v1.kv_cache_interface", "KVCacheConfig.kv_cache_groups", "engines/vllm_scheduler.py"),
    ("vllm.v1.kv_cache_interface", "KVCacheGroupSpec.kv_cache_spec", "engines/vllm_scheduler.py"),
    ("vllm.v1.request", "Request.num_tokens", "engines/vllm_scheduler.py"),
    ("vllm.v1.outputs", "ModelRunnerOutput.with_kv_conn_output_only", "engines/vllm_worker.py"),
    ("vllm.v1.worker.gpu_worker", "Worker.get_kv_connector_handshake_metadata", "engines/vllm_worker.py"),
    ("vllm.config", "ModelConfig.get_num_kv_heads", "engines/vllm_worker.py, replica/vllm_host_tier.py"),
    ("vllm.config", "ModelConfig.get_head_size", "engines/vllm_worker.py, replica/vllm_host_tier.py"),
    ("vllm.config", "ModelConfig.get_num_layers", "engines/vllm_worker.py"),
    ("vllm.config", "ModelConfig.get_total_num_hidden_layers", "replica/vllm_host_tier.py"),
    ("vllm.config", "ModelConfig.use_mla", "replica/vllm_host_tier.py"),
    ("vllm.config", "KVTransferConfig.kv_connector", "replica/vllm_host_tier.py"),
    ("vllm.config", "KVTransferConfig.kv_connector_extra_config", "replica/vllm_host_tier.py"),
    ("vllm.utils.torch_utils", "get_kv_cache_torch_dtype", "engines/vllm_worker.py, replica/vllm_host_tier.py"),
    ("vllm.utils.torch_utils", "get_dtype_size", "replica/vllm_host_tier.py"),
    ("vllm.v1.core.sched.output", "SchedulerOutput.kv_connector_metadata", "engines/vllm_transfers.py"),
    (
        "vllm.distributed.kv_transfer.kv_connector.v1.offloading.common",
        "OffloadingConnectorMetadata.load_jobs",
        "engines/vllm_transfers.py",
    ),
    (
        "vllm.distributed.kv_transfer.kv_connector.v1.offloading.common",
        "OffloadingConnectorMetadata.store_jobs",
        "engines/vllm_transfers.py",
    ),
    (
        "vllm.distributed.kv_transfer.kv_connector.v1.offloading.common",
        "TransferJob.dst_spec",
        "engines/vllm_transfers.py",
    ),
    ("vllm.v1.worker.worker_base", "WorkerBase.compile_or_warm_up_model", "engines/vllm_worker.py"),
    ("vllm.v1.worker.worker_base", "WorkerBase.execute_model", "engines/vllm_worker.py"),
    ("vllm.v1.worker.worker_base", "WorkerBase.get_kv_cache_spec", "engines/vllm_worker.py"),
    ("vllm.v1.worker.worker_base", "WorkerBase.get_supported_kv_cache_layouts", "engines/vllm_worker.py"),
    ("vllm.v1.worker.worker_base", "WorkerBase.init_device", "engines/vllm_worker.py"),
    ("vllm.v1.worker.worker_base", "WorkerBase.load_model", "engines/vllm_worker.py"),
    ("vllm.v1.worker.worker_base", "WorkerBase.sample_tokens", "engines/vllm_worker.py"),
    ("vllm.v1.metrics.stats", "PrefillStats.num_prompt_tokens", "replica/vllm_outputs.py"),
    ("vllm.v1.metrics.stats", "PrefillStats.num_local_cached_tokens", "replica/vllm_outputs.py"),
    ("vllm.v1.metrics.stats", "PrefillStats.num_external_cached_tokens", "replica/vllm_outputs.py"),
    ("vllm.v1.engine.detokenizer", "IncrementalDetokenizer.num_output_tokens", "replica/vllm_outputs.py"),
    ("vllm.v1.metrics.stats", "SchedulerStats.num_waiting_reqs", "replica/vllm_outputs.py"),
    ("vllm.v1.metrics.stats", "SchedulerStats.num_running_reqs", "replica/vllm_outputs.py"),
    ("vllm.v1.metrics.stats", "SchedulerStats.kv_cache_usage", "replica/vllm_outputs.py"),
    ("vllm.v1.metrics.stats", "SchedulerStats.prefix_cache_stats", "replica/vllm_outputs.py"),
    ("vllm.v1.metrics.stats", "PrefixCacheStats.queries", "replica/vllm_outputs.py"),
    ("vllm.v1.metrics.stats", "PrefixCacheStats.hits", "replica/vllm_outputs.py"),
    ("vllm.sampling_params", "SamplingParams.skip_reading_prefix_cache", "replica/vllm_outputs.py"),
    ("vllm.pooling_params", "PoolingParams.skip_reading_prefix_cache", "replica/vllm_outputs.py"),
]

# (module, dotted name, parameters that we pass, our file)
PARAMETERS = [
    ("pydantic_core", "SchemaValidator", {"_use_prebuilt"}, "prompt/validation.py"),
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
        "prompt/vllm_reader.py",
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
        "prompt/vllm_reader.py",
    ),
    (
        "ray.llm._internal.serve.engines.vllm.vllm_engine",
        "_get_vllm_engine_config",
        {"device_type"},
        "prompt/vllm_reader.py",
    ),
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
        "engines/vllm_worker.py",
    ),
    (
        "vllm.v1.outputs",
        "KVConnectorOutput.__init__",
        {"finished_recving", "kv_connector_worker_meta"},
        "engines/vllm_transfers.py",
    ),
    (
        "vllm.distributed.kv_transfer.kv_connector.v1.offloading.common",
        "OffloadingWorkerMetadata.__init__",
        {"completed_jobs"},
        "engines/vllm_transfers.py",
    ),
    (
        "vllm.v1.kv_cache_interface",
        "FullAttentionSpec.__init__",
        {"block_size", "num_kv_heads", "head_size", "dtype"},
        "engines/vllm_worker.py",
    ),
    ("ray.llm._internal.serve.core.server.llm_server", "LLMServer.__init__", {"engine_cls"}, "replica/deployment.py"),
    (
        "ray.llm._internal.serve.engines.vllm.vllm_engine",
        "VLLMEngine._start_async_llm_engine",
        {"vllm_engine_args", "vllm_engine_config", "placement_group"},
        "engines/vllm_one_process.py",
    ),
    (
        "ray.serve._private.long_poll",
        "LongPollClient.__init__",
        {"host_actor", "key_listeners", "call_in_event_loop", "client_id"},
        "control/ray_long_poll.py",
    ),
    ("vllm.v1.engine.output_processor", "OutputProcessor.add_request", {"request"}, "replica/vllm_outputs.py"),
    (
        "vllm.v1.engine.output_processor",
        "OutputProcessor.process_outputs",
        {"engine_core_outputs", "engine_core_timestamp", "iteration_stats"},
        "replica/vllm_outputs.py",
    ),
]

# Attributes that exist only once an object was made, so that only the source can be asked: (module, class, text, file)
SOURCES = [
    ("fastapi._compat.v2", "ModelField", "self._type_adapter: ", "prompt/validation.py"),
    ("ray.serve.handle", "_DeploymentHandleBase", "self.deployment_id = ", "ingress/deployment.py"),
    (
        "ray.llm._internal.serve.engines.vllm.vllm_engine",
        "VLLMEngine",
        "self._engine_client = ",
        "replica/deployment.py",
    ),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "self.vllm_config = ", "replica/deployment.py"),
    ("vllm.v1.core.sched.scheduler", "Scheduler", "self.waiting = ", "engines/vllm_scheduler.py"),
    ("vllm.v1.core.sched.scheduler", "Scheduler", "self.policy = ", "engines/vllm_scheduler.py"),
    ("vllm.v1.core.sched.scheduler", "Scheduler", "self.hash_block_size = ", "engines/vllm_scheduler.py"),
    ("vllm.v1.core.sched.scheduler", "Scheduler", "self.kv_cache_config = ", "engines/vllm_scheduler.py"),
    (
        "vllm.v1.core.sched.scheduler",
        "Scheduler",
        "request = request_queue.peek_request()",
        "engines/vllm_scheduler.py",
    ),
    ("vllm.v1.core.sched.scheduler", "Scheduler", "self.waiting.prepend_request(request)", "engines/vllm_scheduler.py"),
    ("vllm.v1.core.kv_cache_manager", "KVCacheManager", "self.block_pool = ", "engines/vllm_scheduler.py"),
    ("vllm.v1.request", "Request", "self.block_hashes: list[BlockHash] = ", "engines/vllm_scheduler.py"),
    ("vllm.v1.request", "Request", "self.priority = ", "engines/vllm_scheduler.py"),
    ("vllm.v1.request", "Request", "self.skip_reading_prefix_cache = ", "engines/vllm_scheduler.py"),
    (
        "starlette.applications",
        "Starlette",
        "self.middleware_stack = self.build_middleware_stack()",
        "replica/own_prompts.py, replica/serving_replica.py",
    ),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "self.output_processor = ", "replica/serving_replica.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "self.engine_core = ", "replica/serving_replica.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher", "self._buffer = ", "replica/kv_events/vllm_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher", "self._dp_rank = ", "replica/kv_events/vllm_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher", "self._pub = ", "replica/kv_events/vllm_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher", "self._replay = ", "replica/kv_events/vllm_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher", "self._seq_gen = ", "replica/kv_events/vllm_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher", "self._thread = ", "replica/kv_events/vllm_publisher.py"),
    ("vllm.distributed.kv_events", "ZmqEventPublisher", "self._topic_bytes = ", "replica/kv_events/vllm_publisher.py"),
    ("vllm.v1.engine.core_client", "MPClient", "self.resources = ", "replica/serving_replica.py"),
    (
        "vllm.v1.engine.utils",
        "CoreEngineProcManager",
        "self.processes: list[BaseProcess] = ",
        "replica/vllm_outputs.py",
    ),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "self.output_processor.add_request(request, ", "replica/vllm_outputs.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "output_processor.process_outputs(", "replica/vllm_outputs.py"),
    (
        "vllm.v1.engine.async_llm",
        "AsyncLLM",
        "outputs_slice, outputs.timestamp, iteration_stats",
        "replica/vllm_outputs.py",
    ),
    (
        "vllm.v1.engine.async_llm",
        "AsyncLLM",
        "output_processor.update_scheduler_stats(outputs.scheduler_stats)",
        "replica/vllm_outputs.py",
    ),
    ("vllm.v1.engine.output_processor", "OutputProcessor", "self.request_states: dict", "replica/vllm_outputs.py"),
    ("vllm.v1.engine.output_processor", "RequestState", "self.detokenizer = detokenizer", "replica/vllm_outputs.py"),
    ("vllm.v1.metrics.stats", "IterationStats", "self.num_preempted_reqs = 0", "replica/vllm_outputs.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "output_processor.propagate_error(e)", "replica/vllm_outputs.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "self.output_processor.abort_requests(", "replica/vllm_outputs.py"),
    ("ray.serve._private.replica", "UserCallableWrapper", '"record_autoscaling_stats"', "replica/deployment.py"),
    ("ray.serve._private.replica", "Replica", "options = configure_http_middlewares(", "ingress/endpoint.py"),
    (
        "vllm.renderers.base",
        "BaseRenderer",
        "self._tokenize_prompt_async = ",
        "prompt/vllm_chat_reader.py, prompt/vllm_hooks.py",
    ),
    (
        "vllm.renderers.base",
        "BaseRenderer",
        "self.mm_processor: BaseMultiModalProcessor | None = ",
        "prompt/vllm_reader.py, prompt/vllm_chat_reader.py",
    ),
    (
        "vllm.renderers.base",
        "BaseRenderer",
        "prompt = await self._tokenize_prompt_async(prompt, params)",
        "prompt/vllm_hooks.py",
    ),
    (
        "vllm.renderers.hf",
        "HfRenderer",
        "prompt_raw = await self._apply_chat_template_async(",
        "prompt/vllm_hooks.py",
    ),
    (
        "vllm.renderers.online_renderer",
        "OnlineRenderer",
        "self.renderer = ",
        "prompt/vllm_chat_reader.py, prompt/vllm_reader.py, replica/serving_replica.py",
    ),
    (
        "vllm.entrypoints.launchers.api_server.app_state",
        "init_app_state",
        "renderer=engine_client.renderer",
        "replica/serving_replica.py",
    ),
    (
        "vllm.entrypoints.launchers.api_server.app_state",
        "init_app_state",
        "state.online_renderer = ",
        "prompt/vllm_hooks.py, replica/serving_replica.py",
    ),
    ("ray.llm._internal.serve.core.server.llm_server", "LLMServer", "self._llm_config = ", "replica/deployment.py"),
    (
        "vllm.entrypoints.generate.api_router",
        "init_generate_state",
        "state.openai_serving_responses = ",
        "prompt/vllm_hooks.py",
    ),
    (
        "vllm.entrypoints.generate.api_router",
        "init_generate_state",
        "state.anthropic_serving_messages = ",
        "prompt/vllm_hooks.py",
    ),
    *(
        (
            "vllm.entrypoints.openai.responses.serving",
            "OpenAIServingResponses",
            use,
            "prompt/vllm_hooks.py, replica/ownership.py",
        )
        for use in (
            "self.response_store: dict",
            "prev_response = self.response_store.get(prev_response_id)",
            "self.response_store[response.id] = response",
            "response = self.response_store.get(response_id)",
        )
    ),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "await self._add_request(request, ", "prompt/vllm_hooks.py"),
    ("vllm.v1.engine.async_llm", "AsyncLLM", "self.input_processor.process_inputs(", "prompt/vllm_hooks.py"),
    (
        "vllm.multimodal.media.connector",
        "MediaConnector",
        "return self._load_file_url(url_spec",
        "prompt/vllm_client_faults.py",
    ),
    (
        "vllm.multimodal.media.connector",
        "MediaConnector",
        "self.allowed_media_domains\n            and ",
        "prompt/media.py",
    ),
    ("ray.llm._internal.serve.core.server.llm_server", "LLMServer", "self.engine", "replica/deployment.py"),
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
    assert read, f"no one reads {variable} any longer; serve_app/control/environment.py sets it: adapt that file"


def test_haproxy_still_retries_and_stops_as_configured() -> None:
    """The values reach HAProxy's configuration by this template."""
    template = find("ray.serve._private.haproxy_templates", "HAPROXY_CONFIG_TEMPLATE", "control/environment.py")
    for directive in ("retry-on {{ config.retry_on }}", "hard-stop-after {{ config.hard_stop_after_s }}s"):
        assert directive in template, (
            f"Ray's HAProxy template has no {directive!r} any more: see docs/operate/failures.md"
        )


def test_serve_still_counts_where_no_router_decides() -> None:
    """By the reason that our Lua program gives; an alert goes by it."""
    from serve_app.telemetry.alerts import NO_REPLICA_THERE, ROUTER_FAILURES, ROUTER_REQUESTS

    source = inspect.getsource(
        find("ray.serve._private.haproxy_metrics", "HAProxyMetricsCollector", "monitoring/alerts.py")
    )
    for text in (
        f'"{ROUTER_FAILURES.name}"',
        f'"{ROUTER_REQUESTS.name}"',
        'tag_keys=("application", "reason")',
        f"'{NO_REPLICA_THERE}'",
    ):
        assert text in source, f"Ray's metrics of HAProxy have no {text} any more: see serve_app/telemetry/alerts.py"


def test_haproxy_still_hands_over_what_the_reader_looks_for() -> None:
    """The session's header under the name that SERVE_SESSION_ID has, and the one that says that the body is cut."""
    template = importlib.resources.files("ray.serve._private").joinpath("ingress_request_router.lua.tmpl").read_text()
    for line in ('session_header = SESSION_HEADER .. ": " .. session_id', 'truncation_header = "X-Body-Truncated: "'):
        assert line in template, f"Ray's router script has no {line!r} any more; serve_app/prompt/incoming.py needs it"


def test_haproxy_still_strips_our_header_from_clients() -> None:
    """The note's name begins with the prefix that Serve reserves for routers."""
    from serve_app.messages.routing_note import NOTE_HEADER

    prefix = find("ray.serve._private.constants", "SERVE_INGRESS_ROUTER_HEADER_PREFIX", "messages/routing_note.py")
    assert NOTE_HEADER.startswith(prefix)


def test_vllm_still_ends_completions_without_a_limit_where_we_think() -> None:
    """Routers go by it as if the client had named it."""
    from serve_app.prompt.body import COMPLETION_TOKENS

    completions = find("vllm.entrypoints.openai.completion.protocol", "CompletionRequest", "prompt/body.py")
    assert completions(prompt="a").max_tokens == COMPLETION_TOKENS


def test_a_name_that_is_gone_is_reported_in_a_sentence() -> None:
    """So that this file can be trusted to fail."""
    with pytest.raises(
        pytest.fail.Exception, match=r"ray.serve.gone is gone; serve_app/x.py needs it: pin the version"
    ):
        find("ray.serve", "gone", "x.py")
