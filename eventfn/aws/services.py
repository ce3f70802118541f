"""The names of AWS's services, as boto3 and the `aws` command spell them, and how each is spelled in the variable with
its endpoint: AWS_ENDPOINT_URL_CLOUDWATCH_LOGS for `logs`.

PURE. Source: the service models of botocore (`serviceId`); tests/aws/test_services.py holds this equal to them.
"""

from __future__ import annotations

# Spelled in the variable as they are here, in capitals, with "_" for "-".
_REGULAR = """
accessanalyzer account account-access acm acm-pca agent-registry agent-registry-control aiops amp amplify
amplifybackend amplifyuibuilder apigatewaymanagementapi apigatewayv2 appconfig appconfigdata appfabric appflow
appintegrations application-insights application-signals applicationcostprofiler apprunner appstream appsync
arc-region-switch arc-zonal-shift artifact athena auditmanager b2bi backup backup-gateway backupsearch batch
bcm-dashboards bcm-data-exports bcm-pricing-calculator bcm-recommended-actions bedrock bedrock-agent
bedrock-agent-runtime bedrock-agentcore bedrock-agentcore-control bedrock-data-automation
bedrock-data-automation-runtime bedrock-runtime billing billingconductor braket budgets chatbot chime
chime-sdk-identity chime-sdk-media-pipelines chime-sdk-meetings chime-sdk-messaging chime-sdk-voice cleanrooms
cleanroomsml cloud9 cloudcontrol clouddirectory cloudformation cloudfront cloudfront-keyvaluestore cloudhsm
cloudsearch cloudtrail cloudtrail-data cloudwatch cloudwatchomni codeartifact codebuild codecatalyst codecommit
codeconnections codedeploy codeguru-reviewer codeguru-security codeguruprofiler codepipeline codestar-connections
codestar-notifications cognito-identity cognito-sync comprehend comprehendmedical compute-optimizer
compute-optimizer-automation connect connect-contact-lens connectcampaigns connectcampaignsv2 connectcases
connecthealth connectparticipant controlcatalog controltower cost-optimization-hub customer-profiles databrew
dataexchange datasync datazone dax deadline detective devops-agent devops-guru dlm docdb docdb-elastic drs dsql
dynamodb ebs ec2 ec2-instance-connect ecr ecr-public ecs efs eks eks-auth elasticache elementalinference emr
emr-containers emr-serverless entityresolution eventbridgev2 evs finspace finspace-data firehose fis fms forecast
forecastquery frauddetector freetier fsx gamelift gameliftstreams geo-maps geo-places geo-routes glacier glue grafana
greengrass greengrassv2 groundstation guardduty health healthlake iam iam-toolbox identitystore imagebuilder
importexport inspector inspector-scan inspector2 interconnect internetmonitor invoicing iot iot-managed-integrations
iotdeviceadvisor iotfleetwise iotsecuretunneling iotsitewise iotthingsgraph iottwinmaker ivs ivs-realtime ivschat
kafka kafkaconnect kendra kendra-ranking keyspaces keyspacesstreams kinesis kinesis-video-archived-media
kinesis-video-media kinesis-video-signaling kinesis-video-webrtc-storage kms lakeformation lambda lambda-core
lambda-microvms launch-wizard license-manager license-manager-linux-subscriptions license-manager-user-subscriptions
lightsail location lookoutequipment m2 macie2 mailmanager managedblockchain managedblockchain-query
marketplace-agreement marketplace-catalog marketplace-deployment marketplace-discovery marketplace-reporting
mediaconnect mediaconvert medialive mediapackage mediapackage-vod mediapackagev2 mediastore mediastore-data
mediatailor medical-imaging memorydb mgn migration-hub-refactor-spaces migrationhub-config migrationhuborchestrator
migrationhubstrategy mpa mq mturk mwaa mwaa-serverless neptune neptune-graph neptunedata network-firewall
network-security-manager networkflowmonitor networkmanager networkmonitor notifications notificationscontacts nova-act
oam observabilityadmin odb omics opensearch opensearchserverless organizations osis outposts partnercentral-account
partnercentral-benefits partnercentral-channel partnercentral-revenue-measurement partnercentral-selling
payment-cryptography payment-cryptography-data pca-connector-ad pca-connector-scep pcs personalize personalize-events
personalize-runtime pi pinpoint pinpoint-email pinpoint-sms-voice pinpoint-sms-voice-v2 pipes polly pricing
pricing-plan-manager proton qapps qbusiness qconnect quicksight ram rbin rds rds-data redshift redshift-data
redshift-serverless rekognition repostspace resiliencehub resiliencehubv2 resource-explorer-2 resource-groups
rolesanywhere route53-recovery-cluster route53-recovery-control-config route53-recovery-readiness
route53globalresolver route53profiles route53resolver rtbfabric rum s3 s3files s3outposts s3tables s3vectors sagemaker
sagemaker-a2i-runtime sagemaker-edge sagemaker-featurestore-runtime sagemaker-geospatial sagemaker-metrics
sagemaker-runtime sagemakerjobruntime savingsplans scheduler schemas security-ir securityagent securityhub
securitylake service-quotas servicediscovery ses sesv2 shield signer signer-data signin simpledbv2
snow-device-management snowball sns socialmessaging sqs ssm ssm-contacts ssm-guiconnect ssm-incidents ssm-quicksetup
ssm-sap sso sso-admin sso-oidc sts supplychain support support-app supportauthz sustainability swf synthetics
taxsettings textract timestream-influxdb timestream-query timestream-write tnb transcribe transfer translate
trustedadvisor uxc verifiedpermissions voice-id vpc-lattice waf waf-regional wafv2 wellarchitected wickr wisdom
workdocs workmail workmailmessageflow workspaces workspaces-instances workspaces-thin-client workspaces-web xray
""".split()  # noqa: SIM905 - four hundred lines otherwise

_OTHERS = {
    "apigateway": "API_GATEWAY",
    "application-autoscaling": "APPLICATION_AUTO_SCALING",
    "appmesh": "APP_MESH",
    "autoscaling": "AUTO_SCALING",
    "autoscaling-plans": "AUTO_SCALING_PLANS",
    "ce": "COST_EXPLORER",
    "cloudhsmv2": "CLOUDHSM_V2",
    "cloudsearchdomain": "CLOUDSEARCH_DOMAIN",
    "cognito-idp": "COGNITO_IDENTITY_PROVIDER",
    "config": "CONFIG_SERVICE",
    "cur": "COST_AND_USAGE_REPORT_SERVICE",
    "datapipeline": "DATA_PIPELINE",
    "devicefarm": "DEVICE_FARM",
    "directconnect": "DIRECT_CONNECT",
    "discovery": "APPLICATION_DISCOVERY_SERVICE",
    "dms": "DATABASE_MIGRATION_SERVICE",
    "ds": "DIRECTORY_SERVICE",
    "ds-data": "DIRECTORY_SERVICE_DATA",
    "dynamodbstreams": "DYNAMODB_STREAMS",
    "elasticbeanstalk": "ELASTIC_BEANSTALK",
    "elb": "ELASTIC_LOAD_BALANCING",
    "elbv2": "ELASTIC_LOAD_BALANCING_V2",
    "es": "ELASTICSEARCH_SERVICE",
    "events": "EVENTBRIDGE",
    "globalaccelerator": "GLOBAL_ACCELERATOR",
    "iot-data": "IOT_DATA_PLANE",
    "iot-jobs-data": "IOT_JOBS_DATA_PLANE",
    "iotwireless": "IOT_WIRELESS",
    "kinesisanalytics": "KINESIS_ANALYTICS",
    "kinesisanalyticsv2": "KINESIS_ANALYTICS_V2",
    "kinesisvideo": "KINESIS_VIDEO",
    "lex-models": "LEX_MODEL_BUILDING_SERVICE",
    "lex-runtime": "LEX_RUNTIME_SERVICE",
    "lexv2-models": "LEX_MODELS_V2",
    "lexv2-runtime": "LEX_RUNTIME_V2",
    "logs": "CLOUDWATCH_LOGS",
    "machinelearning": "MACHINE_LEARNING",
    "marketplace-entitlement": "MARKETPLACE_ENTITLEMENT_SERVICE",
    "marketplacecommerceanalytics": "MARKETPLACE_COMMERCE_ANALYTICS",
    "meteringmarketplace": "MARKETPLACE_METERING",
    "mgh": "MIGRATION_HUB",
    "resourcegroupstaggingapi": "RESOURCE_GROUPS_TAGGING_API",
    "route53": "ROUTE_53",
    "route53domains": "ROUTE_53_DOMAINS",
    "s3control": "S3_CONTROL",
    "sdb": "SIMPLEDB",
    "secretsmanager": "SECRETS_MANAGER",
    "serverlessrepo": "SERVERLESSAPPLICATIONREPOSITORY",
    "servicecatalog": "SERVICE_CATALOG",
    "servicecatalog-appregistry": "SERVICE_CATALOG_APPREGISTRY",
    "sms-voice": "PINPOINT_SMS_VOICE",
    "stepfunctions": "SFN",
    "storagegateway": "STORAGE_GATEWAY",
}

SPELLED: dict[str, str] = {name: name.replace("-", "_").upper() for name in _REGULAR} | _OTHERS


def variable(service: str) -> str:
    """The environment variable that every AWS SDK reads this service's endpoint from."""
    return f"AWS_ENDPOINT_URL_{SPELLED[service]}"
