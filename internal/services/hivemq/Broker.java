import com.hivemq.configuration.service.InternalConfigurations;
import com.hivemq.embedded.EmbeddedHiveMQ;
import java.nio.file.Path;

/** HiveMQ CE in embedded mode, which lets everybody in: Broker FOLDER, with FOLDER/conf/config.xml. */
public class Broker {
    public static void main(String[] args) {
        InternalConfigurations.MAX_INFLIGHT_WINDOW_SIZE_MESSAGES = Integer.getInteger("window"); // settings of no file
        InternalConfigurations.PERSISTENCE_BUCKET_COUNT.set(4);
        Path dir = Path.of(args[0]);
        var broker = EmbeddedHiveMQ.builder().withConfigurationFolder(dir.resolve("conf")).withDataFolder(dir.resolve("data"))
                .withExtensionsFolder(dir.resolve("extensions")).build();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> broker.stop().join()));
        broker.start().join();
    }
}
