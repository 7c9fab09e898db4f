"""An agent framework, Pydantic AI, with a scripted model: its MCP toolset is a client of the sidecar.

    agent_framework.py URL

The model is a script, so what it "decides" is always the same: call a granted tool, then one that was not granted,
then repeat to the person what the tools said.
"""

import asyncio
import json
import sys

from checks import Checks
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, RetryPromptPart, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

SCRIPT = [("everything__get-sum", {"a": 20, "b": 22}), ("time__convert_time", {"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"})]


async def main() -> None:
    checks, offered = Checks(), []

    def model(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        offered[:] = [tool.name for tool in info.function_tools]
        answers = [part for message in messages for part in message.parts if isinstance(part, ToolReturnPart | RetryPromptPart)]
        if len(answers) < len(SCRIPT):
            name, arguments = SCRIPT[len(answers)]
            return ModelResponse(parts=[ToolCallPart(name, arguments)])
        return ModelResponse(parts=[TextPart(json.dumps([str(answer.content) for answer in answers]))])

    agent = Agent(FunctionModel(model), toolsets=[MCPToolset(sys.argv[1])])
    async with agent:
        answer = (await agent.run("What is 20 and 22, and when is noon UTC in Tokyo?")).output
    checks.that("the agent is offered what it may call", "everything__get-sum" in offered, offered)
    checks.that("the agent is offered nothing else", "everything__get-env" not in offered, offered)
    checks.that("the agent gets the tools' answers", "42" in answer and "21:00" in answer, answer)
    checks.end()


asyncio.run(main())
