import org.codelibs.opensearch.runner.OpenSearchRunner;

/** One OpenSearch node: OneNode FOLDER HTTP-PORT TRANSPORT-PORT [key=value...]; runs until it is killed. */
public class OneNode {
    public static void main(String[] args) throws Exception {
        OpenSearchRunner runner = new OpenSearchRunner();
        runner.onBuild((number, settings) -> {
            settings.put("network.host", "127.0.0.1");
            settings.put("http.port", args[1]);
            settings.put("transport.port", args[2]);
            settings.put("discovery.type", "single-node");
            settings.put("cluster.routing.allocation.disk.threshold_enabled", "false");
            for (int i = 3; i < args.length; i++) {
                int equals = args[i].indexOf('=');
                settings.put(args[i].substring(0, equals), args[i].substring(equals + 1));
            }
        });
        runner.build(OpenSearchRunner.newConfigs().basePath(args[0]).numOfNode(1));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                runner.close();
            } catch (Exception e) {
                e.printStackTrace();
            }
        }));
        Thread.currentThread().join();
    }
}
