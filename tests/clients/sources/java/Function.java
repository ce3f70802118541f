import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.HashMap;
import java.util.Map;

public class Function implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        switch ((String) event.get("do")) {
            case "fail":
                throw new IllegalStateException("boom");
            case "exit":
                Runtime.getRuntime().halt(3);
                break;
            case "sleep":
                try {
                    Thread.sleep(60_000);
                } catch (InterruptedException interrupted) {
                    Thread.currentThread().interrupt();
                }
                break;
            case "log":
                context.getLogger().log("a line of the function");
                break;
            default:
        }
        Map<String, Object> answer = new HashMap<>();
        answer.put("event", event);
        answer.put("requestId", context.getAwsRequestId());
        answer.put("arn", context.getInvokedFunctionArn());
        answer.put("left", context.getRemainingTimeInMillis());
        answer.put("name", context.getFunctionName());
        answer.put("trace", System.getProperty("com.amazonaws.xray.traceHeader", ""));
        return answer;
    }
}
