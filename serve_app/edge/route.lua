-- Asks a router where a request goes, as Ray's own program does, within a time limit and without harm if none answers.
--
-- A router that fails costs a request its affinity, never its answer: where no router decides, HAProxy takes the live
-- replica with the fewest connections. A body is handed to a second router only where nothing of it was sent to the
-- first. A router that failed is left alone for a while, so that not every request waits for it.

local ROUTER_TIMEOUT_S = @ROUTER_TIMEOUT_S@
local ROUTER_RETRY_S = @ROUTER_RETRY_S@
local REQUEST_ID_HEADER = "x-request-id"
local SESSION_HEADER = @SESSION_HEADER@
local TOKEN_HEADER = @TOKEN_HEADER@
local TOKEN = @TOKEN@
local TENANT_HEADER = @TENANT_HEADER@

-- Of each application: its routers, and by a replica's id the name of its server in HAProxy's configuration.
local ROUTERS = @ROUTERS@
local REPLICA_TARGETS = @REPLICA_TARGETS@

-- Of this thread: each has its own Lua.
local turn = {}

local function now()
    local time = core.now()
    return time.sec + time.usec / 1000000
end

-- Until when a router is left alone, for all threads: a variable of HAProxy's process.
local function rest_name(router)
    return "proc.warmroute_rests_" .. router.host_header:gsub("%W", "_")
end

local function rests(txn, router)
    return now() < tonumber(txn:get_var(rest_name(router)) or 0)
end

local function rest(txn, router)
    txn:set_var(rest_name(router), tostring(now() + ROUTER_RETRY_S))
end

local function first(headers, name)
    local values = headers[name]
    return values and values[0]
end

local function line(name, value)
    if value and value ~= "" then
        return name .. ": " .. value .. "\r\n"
    end
    return ""
end

-- Of a body that HAProxy's buffer could not take, routers get the beginning.
local function truncated_length(txn, body)
    local length = tonumber(txn.sf:hdr("content-length"))
    if length and #body < length then
        return length
    end
end

local function question(txn, host_header, body)
    local headers = txn.http:req_get_headers()
    local length = truncated_length(txn, body)
    if length then
        txn:set_var("txn.ingress_request_router_truncated_full_length", length)
    end
    return "POST /internal/route HTTP/1.0\r\n"
        .. "Host: " .. host_header .. "\r\n"
        .. "Connection: close\r\n"
        .. "Content-Type: application/json\r\n"
        .. "Content-Length: " .. #body .. "\r\n"
        .. line(TOKEN_HEADER, TOKEN)
        .. line(TENANT_HEADER, txn:get_var("txn.warmroute_tenant"))
        .. line("X-Body-Truncated", length and (#body .. "/" .. length))
        .. line(SESSION_HEADER, first(headers, SESSION_HEADER))
        .. line(REQUEST_ID_HEADER, first(headers, REQUEST_ID_HEADER))
        .. "\r\n"
        .. body
end

-- Returns the answer, or nil and what failed.
local function ask(txn, router, body)
    local deadline = now() + ROUTER_TIMEOUT_S
    local socket = core.tcp()
    local function limit()
        socket:settimeout(math.max(0.001, deadline - now()))
    end
    limit()
    if not socket:connect(router.host, router.port) then
        return nil, "router_unreachable"
    end
    limit()
    local is_sent = socket:send(question(txn, router.host_header, body))
    limit()
    local answer = is_sent and socket:receive("*a")
    socket:close()
    if not answer or answer == "" then
        return nil, "router_timeout"
    end
    return answer
end

-- Asks the routers in turn until one is reached; returns its answer, or nil and what failed.
local function ask_one_of(txn, application, body)
    local pool = ROUTERS[application]
    local start = turn[application] or 0
    turn[application] = start + 1
    for i = 0, #pool - 1 do
        local router = pool[(start + i) % #pool + 1]
        if not rests(txn, router) then
            local answer, failure = ask(txn, router, body)
            if answer then
                return answer
            end
            rest(txn, router)
            if failure ~= "router_unreachable" then
                return nil, failure
            end
        end
    end
    return nil, "router_unreachable"
end

-- Routers answer flat JSON whose strings have no quotes or braces in them.
local function apply(txn, application, answer)
    if not answer:match("^HTTP/[%d%.]+ 200") then
        return "router_non_200"
    end
    local replica_id = answer:match('"replica_id"%s*:%s*"([^"]+)"')
    if not replica_id then
        return "unparseable_replica_id"
    end
    local target = REPLICA_TARGETS[application][replica_id]
    if not target then
        return "unknown_replica_id"
    end
    local headers = answer:match('"request_headers"%s*:%s*{(.-)}') or ""
    for name, value in headers:gmatch('"([^"]+)"%s*:%s*"([^"]*)"') do
        txn.http:req_set_header(name, value)
    end
    txn:set_var("txn.ingress_request_router_target", target)
    txn:set_var("txn.via_ingress_request_router", true)
end

core.register_action("route_via_ingress_request_router", { "http-req" }, function(txn)
    local started = core.now()
    local application = txn:get_var("txn.ingress_request_router_app")
    if not application or not ROUTERS[application] or not REPLICA_TARGETS[application] then
        return
    end
    local answer, failure = ask_one_of(txn, application, txn.sf:req_body() or "")
    if answer then
        failure = apply(txn, application, answer)
    end
    if failure then
        txn:set_var("txn.ingress_request_router_failed", failure)
    end
    local ended = core.now()
    local us = (ended.sec - started.sec) * 1000000 + ended.usec - started.usec
    txn:set_var("txn.ingress_request_router_latency_us", us)
end, 0)
