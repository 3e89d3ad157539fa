package azure

func newRoutes() routes {
	t := routes{}
	t.add("POST", "/openai/deployments/{deployment-id}/chat/completions", "OpenAI/deployments/chat/completions/action", dated, chatCompletions)
	return t
}
